"""`python -m eval judges`: aggregators with a judge on recorded texts; the judge is scripted."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from composer.outcomes import read_table
from eval.console import stdout_console
from eval.judges_replay import Judged, Row, judge_records
from eval.judges_script import ScriptedJudge, Taste
from eval.progress import open_bars
from eval.replay.command import Experts, Folder
from eval.replay.methods import split_names
from eval.replay.output import number, with_interval

COLUMNS = (
    "method",
    "n",
    "calls",
    "by formula",
    "USD / query",
    "by formula",
    "equal",
    "winner's score [95 %]",
    "to best single [95 %]",
)


def judges_command(
    folder: Folder,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge on the first N queries only. Default: all.")
    ] = None,
    k: Annotated[
        int, typer.Option("-k", "--k", min=2, help="Experts that propose: the best on train.")
    ] = 4,
    experts: Experts = "",
    taste: Annotated[
        Taste, typer.Option(help="What the scripted judge goes by: recorded scores, or length.")
    ] = "score",
    noise: Annotated[
        float, typer.Option(min=0, help="Its error: standard deviation, scores being in 0..1.")
    ] = 0.2,
    judge_usd: Annotated[
        float, typer.Option("--judge-usd", min=0, help="What each of its replies costs.")
    ] = 0.001,
    seed: Annotated[int, typer.Option(help="Of the judge's errors and the resampling.")] = 0,
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Run aggregators with a judge on recorded texts, and count what they ask.

    THE JUDGE IS SCRIPTED: it knows what the record says of an answer and errs by a seeded noise, so
    the scores say what a judge as good as this would be worth, not how good a real one is. The
    counts are real. Calls and cost of every query are compared with the formulas; where one
    differs, the exit status is 1.

    Rows outside train are judged, less those that lack a text or a score of a proposer. The samples
    of best-of-n are the proposers' texts. A fused text is not recorded: the score beside
    rank-and-fuse is that of the proposal that the judge put first.
    """
    table = read_table(folder, texts=True)
    table = table.with_experts(split_names(experts)) if experts else table
    judge = ScriptedJudge(taste, noise, seed, judge_usd)
    with open_bars() as bars:
        judged = judge_records(table, judge, k=k, limit=limit, on_method=bars.on_rows)
    if output == "json":
        sys.stdout.write(json.dumps(to_json(judged), indent=1, allow_nan=False) + "\n")
    else:
        _show(judged)
    check_counts(judged)


def check_counts(judged: Judged) -> None:
    """Exit with status 1 where a query was not asked what the formulas say."""
    wrong = [row for row in judged.rows if row.n_differ]
    for row in wrong:
        first = row.differing[0]
        sys.stderr.write(
            f"error: {row.method}: {row.n_differ} of {row.n} queries differ from the formula, "
            f"such as {first!r}\n"
        )
    if wrong:
        raise typer.Exit(1)


def to_json(judged: Judged) -> dict[str, Any]:
    """Everything that was found, unknown numbers as null."""
    return {
        "dataset": judged.dataset,
        "judge": {"scripted": True, **asdict(judged.judge)},
        "proposers": list(judged.proposers),
        "n": judged.n,
        "n_left_out": judged.n_left_out,
        "rows": [{key: _known(value) for key, value in asdict(r).items()} for r in judged.rows],
    }


def _known(value: object) -> object:
    """The value; None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _show(judged: Judged) -> None:
    j = judged.judge
    goes_by = {"score": "the recorded score", "length": "the length of the text"}[j.taste]
    title = f"{judged.dataset}: {', '.join(judged.proposers)}"
    table = Table(*COLUMNS, title=escape(title), title_justify="left")
    for row in judged.rows:
        table.add_row(*map(escape, _cells(row)))
    console = stdout_console()
    console.print(table)
    console.print(
        f"the judge is scripted: it goes by {goes_by} with noise {j.noise:g}, seed {j.seed}; "
        f"{judged.n_left_out} rows left out, for want of a text or a score",
        soft_wrap=True,
    )


def _cells(row: Row) -> list[str]:
    counted = not math.isnan(row.calls)
    return [
        row.method,
        f"{row.n:,}",
        number(row.calls, ".4g"),
        number(row.calls_by_formula, ".4g"),
        number(row.usd, ".6f"),
        number(row.usd_by_formula, ".6f"),
        f"{row.n - row.n_differ:,} of {row.n:,}" if counted else "-",
        with_interval(row.score, row.ci95),
        with_interval(row.delta_best_single, row.delta_ci95, sign="+"),
    ]
