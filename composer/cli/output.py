"""Results on stdout, everything else on stderr; and an answer as plain JSON values."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import typer

from composer.types import Answer, Choice, Completion, Failure, Selection, Span

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 160
"""Columns of a table that goes to a file or another program."""


def stdout() -> Console:
    """For tables that are a command's result."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def stderr() -> Console:
    """For evidence, progress and logs."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PIPED_WIDTH
    return Console(stderr=True, width=width, markup=False, highlight=False, emoji=False)


def complain(error: object) -> None:
    """Say what is wrong, in one line on stderr."""
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def write_json(value: object) -> None:
    """Write one JSON value to stdout."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2))


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer and all that led to it, as JSON values; spans are timed from the first one on."""
    return {
        "query_id": answer.query_id,
        "answer": answer.text,
        "expert": answer.expert,
        "aggregator": answer.aggregator,
        "finish_reason": answer.finish_reason,
        "reason": answer.reason,
        "details": plain(answer.details),
        "selection": selection_json(answer.selection) if answer.selection is not None else None,
        "completions": [_completion_json(completion) for completion in answer.completions],
        "failures": [_failure_json(failure) for failure in answer.failures],
        "asked": list(answer.asked),
        "saved": list(answer.saved),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": plain(answer.cost_usd),
        "trace": _trace_json(answer.trace),
    }


def selection_json(selection: Selection) -> dict[str, Any]:
    """Who was chosen and why, what would change it, and every predicted quality; null: unknown."""
    return {
        "query_id": selection.query_id,
        "router": selection.router,
        "reason": selection.reason,
        "shortfall": selection.shortfall,
        "margin": plain(selection.margin),
        "choices": [_choice_json(choice) for choice in selection.choices],
        "counterfactuals": [
            plain(asdict(counterfactual)) | {"text": counterfactual.text}
            for counterfactual in selection.what_if()
        ],
        "ranking": list(selection.ranking),
        "scores": qualities(selection),
    }


def qualities(selection: Selection) -> dict[str, float | None]:
    """Every expert's predicted quality, by its name; None: unknown to the router."""
    return {
        name: plain(float(quality))
        for name, quality in zip(selection.experts, selection.quality, strict=True)
    }


def plain(value: object) -> Any:
    """The value in JSON's terms: NumPy's numbers and arrays as Python's, NaN and infinity as None.

    What JSON has no form for becomes its text.
    """
    if hasattr(value, "tolist"):
        value = cast("Any", value).tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): plain(item) for key, item in items}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, cast("Iterable[object]", value)), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in cast("Iterable[object]", value)]
    return str(value)


def _choice_json(choice: Choice) -> dict[str, Any]:
    evidence = choice.evidence
    return {
        "expert": choice.expert,
        "quality": plain(choice.quality),
        "utility": plain(choice.utility),
        "evidence": evidence.reason,
        "details": plain(evidence.details),
    }


def _completion_json(completion: Completion) -> dict[str, Any]:
    samples = [
        {
            "text": sample.text,
            "finish_reason": sample.finish_reason,
            "completion_tokens": sample.completion_tokens,
            "answer": sample.answer,
        }
        for sample in completion.samples
    ]
    return {
        "request_id": completion.request_id,
        "expert": completion.expert,
        "samples": samples,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "queued_s": plain(completion.queued_s),
        "loading_s": plain(completion.loading_s),
        "generating_s": plain(completion.generating_s),
        "cost_usd": plain(completion.cost_usd),
        "attempts": completion.attempts,
        "runner": completion.runner,
    }


def _failure_json(failure: Failure) -> dict[str, Any]:
    return plain(asdict(failure))


def _trace_json(trace: Iterable[Span]) -> list[dict[str, Any]]:
    spans = list(trace)
    origin_s = min((span.start_s for span in spans), default=0.0)
    return [
        {
            "name": span.name,
            "start_s": plain(span.start_s - origin_s),
            "end_s": plain(span.end_s - origin_s),
            "attributes": plain(span.attributes),
        }
        for span in spans
    ]
