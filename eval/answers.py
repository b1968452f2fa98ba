"""`python -m eval answers`: how well typed answers are read, against those that were recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from composer.answers import extract_answer, same_answer
from composer.errors import ConfigError
from composer.outcomes import NOT_RECORDED, OutcomeTable, read_table
from composer.types import AnswerType
from eval.console import stdout_console
from eval.metrics.bootstrap import draw_counts, interval
from eval.progress import open_bars

Verdict = Literal["right", "other", "invented", "missed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
N_RESAMPLES = 1000
SHOWN_CHARS = 160
"""Characters of the end of a text that an example shows."""


@dataclass(frozen=True, slots=True)
class Example:
    """One text whose answer is read in another way than it was recorded."""

    query: str
    expert: str
    recorded: str | None
    extracted: str | None
    text: str
    """The end of it."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often what is read from texts is what was recorded."""

    counts: dict[Verdict, int]
    """Pairs of query and expert; invented: nothing was recorded to be read; missed: nothing is."""
    right_ci95: tuple[float, float]
    """Of the share that is right: 95 % percentile bootstrap over queries."""
    examples: dict[Verdict, tuple[Example, ...]]

    @property
    def n(self) -> int:
        """All pairs."""
        return sum(self.counts.values())

    def share(self, verdict: Verdict) -> float:
        """The share of the pairs with this verdict."""
        return self.counts[verdict] / self.n


def answers(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Recorded outcomes with texts and answers.")
    ],
    answer_type: Annotated[AnswerType, typer.Option(help="How the texts are read.")] = "choice",
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, JSON for programs.")
    ] = "table",
    examples: Annotated[
        int, typer.Option(min=0, help="Texts to show of each kind of difference.")
    ] = 0,
) -> None:
    """Compare the answers read from recorded texts with the recorded ones.

    Right: the same answer, or none in both. Other: another one. Invented: an
    answer where none was recorded as given. Missed: none where one was.

    python -m eval answers data/mine --examples 3
    """
    table = read_table(folder, texts=True)
    with open_bars() as bars:
        advance = bars.on_rows(f"{table.name}: reading", len(table.queries))
        found = compare(table, answer_type, n_examples=examples, on_query=advance)
    if output == "json":
        as_json = _to_json(table.name, answer_type, found)
        sys.stdout.write(json.dumps(as_json, ensure_ascii=False, indent=1) + "\n")
        return
    _show(found, title=f"{table.name}: {answer_type}, {found.n:,} texts")


def compare(
    table: OutcomeTable,
    answer_type: AnswerType,
    *,
    n_examples: int = 0,
    on_query: Callable[[], None] = lambda: None,
) -> Agreement:
    """Read all texts whose answers were recorded; that none was found counts as recorded.

    Args:
        table: Read with its texts.
        answer_type: How its texts are read.
        n_examples: How many to keep of each verdict but "right": the first ones.
        on_query: Called after each query.

    Raises:
        ConfigError: The table has no texts, or no answers, or none of the same pair.
    """
    if table.texts is None or table.answers is None:
        what = "texts" if table.texts is None else "answers"
        raise ConfigError(f"{table.name}: no {what} are recorded; name a folder that has both")
    counts = np.zeros((len(table.queries), len(VERDICTS)), np.int64)
    kept: dict[Verdict, list[Example]] = {verdict: [] for verdict in VERDICTS[1:]}
    for row, query in enumerate(table.queries):
        for column, expert in enumerate(table.names):
            text: str | None = table.texts[row, column]
            if text is None or table.answers.codes[row, column] == NOT_RECORDED:
                continue
            recorded = table.answers.value(row, column)
            extracted = extract_answer(text, answer_type)
            verdict = _judge(recorded, extracted, answer_type)
            counts[row, VERDICTS.index(verdict)] += 1
            if verdict != "right" and len(kept[verdict]) < n_examples:
                end = text[-SHOWN_CHARS:]
                kept[verdict].append(Example(query.id, expert, recorded, extracted, end))
        on_query()
    totals = counts.sum(axis=0)
    if not totals.sum():
        raise ConfigError(
            f"{table.name}: no text has its answer recorded; record both of the same experts"
        )
    return Agreement(
        {verdict: int(total) for verdict, total in zip(VERDICTS, totals, strict=True)},
        _interval_of_right(counts),
        {verdict: tuple(found) for verdict, found in kept.items()},
    )


def _judge(recorded: str | None, extracted: str | None, answer_type: AnswerType) -> Verdict:
    if recorded is None:
        return "right" if extracted is None else "invented"
    if extracted is None:
        return "missed"
    return "right" if same_answer(extracted, recorded, answer_type) else "other"


def _interval_of_right(counts: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[float, float]:
    read = counts[counts.sum(axis=1) > 0]
    drawn = draw_counts(np.random.default_rng(0), len(read), N_RESAMPLES)
    low, high = interval((drawn @ read[:, 0]) / (drawn @ read.sum(axis=1)))
    return float(low), float(high)


def _to_json(name: str, answer_type: AnswerType, found: Agreement) -> dict[str, Any]:
    return {
        "dataset": name,
        "answer_type": answer_type,
        "n": found.n,
        **found.counts,
        "shares": {verdict: found.share(verdict) for verdict in VERDICTS},
        "right_ci95": found.right_ci95,
        "examples": {v: [asdict(one) for one in some] for v, some in found.examples.items()},
    }


def _show(found: Agreement, title: str) -> None:
    console = stdout_console()
    table = Table("", "texts", "%", "95 %", title=escape(title), box=SIMPLE)
    low, high = (f"{100 * end:.2f}" for end in found.right_ci95)
    for verdict in VERDICTS:
        ends = f"{low}-{high}" if verdict == "right" else ""
        share = f"{100 * found.share(verdict):.2f}"
        table.add_row(verdict, f"{found.counts[verdict]:,}", share, ends)
    console.print(table)
    for verdict, some in found.examples.items():
        for one in some:
            console.print(
                f"{verdict}: query {one.query}, {one.expert}, recorded {one.recorded}, "
                f"read {one.extracted}: ...{one.text!r}",
                markup=False,
                soft_wrap=True,
            )
