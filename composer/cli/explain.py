"""What led to an answer, drawn for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from composer.cli.output import qualities
from composer.types import Answer, Selection
from routers.shortened import shortened


def show_selection(console: Console, selection: Selection, *, explain: bool) -> None:
    """All experts that may be asked, best first; with `explain` on what evidence, and what if.

    Of a query that is refused: all experts.
    """
    console.print(f"router {selection.router}: {selection.reason}")
    if selection.shortfall is not None:
        console.print(f"fewer than asked for: {selection.shortfall}")
    chosen = {choice.expert: choice for choice in selection.choices}
    known = qualities(selection)
    columns = ["rank", "expert", "predicted quality", "chosen"]
    table = make_table(*columns, *(["utility", "evidence"] if explain else []))
    by_quality = sorted(known, key=lambda name: -(known[name] or 0.0))
    for rank, expert in enumerate(selection.ranking or by_quality, start=1):
        choice = chosen.get(expert)
        cells = [str(rank), expert, number(known.get(expert)), "yes" if choice else ""]
        if explain:
            cells += [
                number(choice.utility) if choice else "",
                choice.evidence.reason if choice else "",
            ]
        table.add_row(*cells)
    console.print(table)
    if explain and selection.margin is not None:
        console.print(f"margin over {selection.ranking[1]}: {number(selection.margin)}")
    if not explain:
        return
    for counterfactual in selection.what_if():
        console.print(f"what if: {counterfactual.text}")
    for line in _nearest(selection):
        console.print(line, markup=False)


def _nearest(selection: Selection) -> list[str]:
    """The recorded queries nearest to this one, and how the first few experts did on each."""
    if not selection.choices:
        return []
    shown = selection.ranking[:4]
    lines: list[str] = []
    for query in selection.choices[0].evidence.details.get("nearest", ()):
        scores = ", ".join(f"{e} {query['scores'][e]:.2f}" for e in shown if e in query["scores"])
        lines.append(f"nearest ({query['similarity']:.2f}): {query['prompt'][:60]!r}: {scores}")
    return lines


def show_answer(console: Console, answer: Answer) -> None:
    """How an answer came about: the selection, who said what, and what the aggregator did."""
    if answer.selection is not None:
        show_selection(console, answer.selection, explain=True)
    for completion in answer.completions:
        request = completion.request_id.removeprefix(f"{answer.query_id}/")
        for sample in completion.samples:
            said = shortened(sample.text, 120)
            console.print(f"{completion.expert} said to {request}: {said!r}", markup=False)
    for failure in answer.failures:
        console.print(f"failed: {failure.expert} ({failure.kind}): {failure.message}", markup=False)
    console.print(f"aggregator {answer.aggregator}: {answer.reason}", markup=False)
    for line in _account(answer.details):
        console.print(f"  {line}", markup=False)
    table = make_table(
        "expert",
        "prompt tokens",
        "tokens",
        "queued s",
        "loading s",
        "generating s",
        "runner",
        "USD",
    )
    for completion in answer.completions:
        table.add_row(
            completion.expert,
            str(completion.prompt_tokens),
            str(completion.completion_tokens),
            f"{completion.queued_s:.2f}",
            f"{completion.loading_s:.2f}",
            f"{completion.generating_s:.2f}",
            completion.runner or "inline",
            f"{completion.cost_usd:.6f}",
        )
    console.print(table)
    saved = f"; saved {', '.join(answer.saved)}" if answer.saved else ""
    console.print(f"asked {', '.join(answer.asked)}{saved}", markup=False)
    console.print(
        f"{answer.expert} wrote the answer; {answer.prompt_tokens} + {answer.completion_tokens} "
        f"tokens, {answer.cost_usd:.6f} USD"
    )


def _account(details: Mapping[str, Any]) -> list[str]:
    """An aggregator's evidence, a line each; of a mapping, a line for each of its keys."""
    lines: list[str] = []
    for key, value in details.items():
        inner: Mapping[str, Any] = cast("Any", value) if isinstance(value, Mapping) else {}
        lines.append(f"{key}:" if inner else f"{key}: {_in_words(value)}")
        lines += [f"  {name}: {_in_words(each)}" for name, each in inner.items()]
    return lines


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return ", ".join(f"{key} {_in_words(each)}" for key, each in pairs) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, cast("Sequence[Any]", value))) or "none"
    return shortened(str(value), 200)


def make_table(*columns: str) -> Table:
    """An empty table without a frame; long cells wrap and nothing is cut off."""
    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def number(value: float | None) -> str:
    """Three decimals, or that it is unknown."""
    return "unknown" if value is None else f"{value:.3f}"
