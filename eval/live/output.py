"""Attributions and comparisons on stdout: as tables, as Markdown, or as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from eval.console import stdout_console
from eval.live.attribution import Attribution, Term
from eval.live.compare import Comparison
from eval.replay.output import Output, number

GAIN = ("method", "n", "samples", "accuracy [95 %]", "gain [95 %]", "= routing", "+ aggregation")
GAP = ("method", "potential", "unused", "missed", "gap = unused + missed")
GAIN_TITLE = "Gain over the best single expert, and where it comes from"
GAP_TITLE = "What the best of those asked would add, and what is left to the oracle"
AMOUNTS = {
    "accuracy": ("accuracy", (".4f", ".3f")),
    "cost_usd_per_1k": ("USD / 1k", (".3g", ".3g")),
    "tokens": ("tokens a query", (".1f", ".1f")),
}
"""What a compared amount is called, and the forms of its mean and of an interval's end."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def print_attributions(attributions: Sequence[Attribution], output: Output) -> None:
    """Print where gains over the best single expert come from, and what is left to gain."""
    if output == "json":
        print_json({"rows": [each.to_json() for each in attributions]})
        return
    _print(GAIN_TITLE, GAIN, gain_cells(attributions), output)
    _print(GAP_TITLE, GAP, gap_cells(attributions), output)


def gain_cells(attributions: Sequence[Attribution]) -> list[tuple[str, ...]]:
    """Rows for the columns of `GAIN`."""
    return [
        (
            each.method,
            f"{each.n}" + (f" ({each.n_unknown} unknown)" if each.n_unknown else ""),
            number(each.samples, ".3g"),
            _cell(each.terms["accuracy"], sign=""),
            *(_cell(each.terms[name]) for name in ("gain", "routing", "aggregation")),
        )
        for each in attributions
    ]


def gap_cells(attributions: Sequence[Attribution]) -> list[tuple[str, ...]]:
    """Rows for the columns of `GAP`."""
    names = ("potential", "unused", "missed", "gap")
    return [(each.method, *(_cell(each.terms[name]) for name in names)) for each in attributions]


def print_comparison(found: Comparison, output: Output) -> None:
    """Print two methods side by side, and how they did query by query."""
    if output == "json":
        print_json(found.to_json())
        return
    rows: list[tuple[str, ...]] = []
    for name, versus in found.amounts.items():
        what, forms = AMOUNTS[name]
        sides = (_cell(term, sign="", forms=forms) for term in (versus.a, versus.b))
        rows.append((what, *sides, _cell(versus.difference, forms=forms)))
    _print(f"{found.n} queries", ("[95 %]", found.a, found.b, "difference"), rows, output)
    sys.stdout.write(
        f"{found.a} is better on {found.wins} queries, worse on {found.losses} and as good on "
        f"{found.ties}; McNemar's exact p = {found.p_mcnemar:.4g}\n"
    )
    apart = (
        (found.n_unknown, "shared with an unknown score"),
        (found.only_a, f"of {found.a} alone"),
        (found.only_b, f"of {found.b} alone"),
    )
    if left_out := ", ".join(f"{n} {what}" for n, what in apart if n):
        sys.stdout.write(f"queries left out: {left_out}\n")


def _cell(term: Term, *, sign: str = "+", forms: tuple[str, str] = (".4f", ".3f")) -> str:
    if math.isnan(term.value):
        return "-"
    of_mean, of_end = forms
    low, high = (number(end, sign + of_end) for end in (term.low, term.high))
    return f"{number(term.value, sign + of_mean)} [{low}, {high}]"


def _print(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], output: Output
) -> None:
    if output == "markdown":
        lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
        sys.stdout.write("\n".join([f"**{title}**", "", *lines, "", ""]))
        return
    # Names in brackets would be taken for styles.
    table = Table(*map(escape, columns), title=escape(title), title_justify="left")
    for cells in rows:
        table.add_row(*map(escape, cells))
    stdout_console().print(table)
