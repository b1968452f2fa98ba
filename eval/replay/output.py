"""Rows on stdout: as a table, as Markdown, or as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from eval.console import stdout_console
from eval.replay.rows import Interval, Row

Output = Literal["table", "json", "markdown"]
LINE = 200
"""Characters of the longest line of settings."""
COLUMNS = (
    "method",
    "category",
    "n",
    "accuracy [95 %]",
    "macro [95 %]",
    "to best single [95 %]",
    "gap closed",
    "USD / 1k",
    "asked",
)


def print_rows(rows: Sequence[Row], output: Output, as_json: Mapping[str, Any]) -> None:
    """Print a replay's rows.

    Args:
        rows: Grouped by split.
        output: How.
        as_json: What `json` prints.
    """
    if output == "json":
        sys.stdout.write(json.dumps(as_json, indent=1, allow_nan=False) + "\n")
        return
    for split, grouped in groupby(rows, key=lambda row: row.split):
        of_split = list(grouped)
        if output == "markdown":
            sys.stdout.write(to_markdown(split, of_split) + "\n")
            continue
        # Settings in brackets would be taken for styles.
        table = Table(*COLUMNS, title=escape(split), title_justify="left")
        for row in of_split:
            table.add_row(*map(escape, cells(row)))
        console = stdout_console()
        console.print(table)
        for line in describe_settings(of_split):
            console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def describe_settings(rows: Sequence[Row]) -> list[str]:
    """The settings used, a line a method; those that fill more than a line are in the JSON."""
    lines = [
        f"{row.method}: " + ", ".join(f"{key} {value}" for key, value in row.settings.items())
        for row in rows
        if row.settings
    ]
    return [line if len(line) <= LINE else f"{line[: LINE - 3]}..." for line in lines]


def to_markdown(split: str, rows: Sequence[Row]) -> str:
    """A split's rows as a Markdown table under its name."""
    lines = [f"**{split}**", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    settings = [f"- {line}" for line in describe_settings(rows)]
    return "\n".join([*lines, *(_line(cells(row)) for row in rows), "", *settings, ""])


def cells(row: Row) -> list[str]:
    """A row's cells, as texts, in the order of `COLUMNS`."""
    apart = [f"{row.n_unknown} unknown"] * bool(row.n_unknown)
    apart += [f"{row.n_failed} unanswered"] * bool(row.n_failed)
    return [
        row.method,
        row.category,
        f"{row.n}" + (f" ({', '.join(apart)})" if apart else ""),
        with_interval(row.accuracy, row.ci95),
        with_interval(row.macro_accuracy, row.macro_ci95),
        with_interval(row.delta_best_single, row.delta_ci95, sign="+"),
        number(row.oracle_gap_closed, ".0%"),
        number(row.cost_usd_per_1k, ".3f"),
        number(row.asked_per_query, ".3g"),
    ]


def with_interval(value: float, interval: Interval, *, sign: str = "") -> str:
    """A number to four digits and its interval to three; a dash where it is unknown."""
    low, high = (number(end, f"{sign}.3f") for end in interval)
    return f"{number(value, f'{sign}.4f')} [{low}, {high}]" if not math.isnan(value) else "-"


def number(value: float, form: str) -> str:
    """A number in a format; a dash where it is unknown."""
    return "-" if math.isnan(value) else format(value, form)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
