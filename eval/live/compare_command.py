"""`python -m eval compare`: two methods of finished runs, paired query by query."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.live.answered import Answered
from eval.live.compare import Point, Side, compare
from eval.live.compositions import SELF_MOA
from eval.live.folder import KIND
from eval.live.output import print_comparison
from eval.live.records import of_composition, read_records
from eval.replay.judged import Decision
from eval.replay.output import Output
from eval.report.load import JudgedPart, ReplayRun, load_runs
from eval.report.looks import is_reference

SideArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN_DIR[:METHOD]",
        help="A composition, a rung or fixed[expert=NAME] of a run; of a run of one composition "
        "that one.",
        show_default=False,
    ),
]


def compare_command(
    a: SideArgument,
    b: SideArgument,
    seed: Annotated[int, typer.Option(help="Of the resampling behind the intervals.")] = 0,
    output: Annotated[Output, typer.Option(help="How to print it.")] = "table",
) -> None:
    r"""Compare two methods on the queries that they share: accuracy, cost, tokens.

    Prints 95 % intervals of both and of their difference, how often either is better, and
    McNemar's exact p.

    python -m eval compare runs/starter:panel runs/starter:best-single

    python -m eval compare runs/starter:panel "runs/starter:fixed\[expert=smol]"

    python -m eval compare runs/before runs/after
    """
    print_comparison(compare(read_side(a), read_side(b), seed=seed), output)


def read_side(text: str) -> Side:
    """A method of a finished run on all queries that it was judged on.

    Raises:
        ConfigError: There is no such run or method, or the run has several and none is named.
    """
    name, _, method = (text, "", "") if Path(text).is_dir() else text.rpartition(":")
    folder = Path(name)
    if not name or not folder.is_dir():
        raise ConfigError(f"{text!r} names no folder; write RUN_DIR, or RUN_DIR:METHOD")
    (run,) = load_runs([folder])
    if not isinstance(run, ReplayRun):
        raise ConfigError(
            f"{str(folder)!r} holds a run between a strong and a weak expert, which has no answers "
            "to compare; name a live run or a replay"
        )
    method = _method(run, folder, method)
    records = None
    if run.manifest.kind == KIND and not is_reference(method):
        records = {r.answered.id: r for r in of_composition(read_records(folder), method)}
    points = {
        decision.query_id: Point(
            query.prompt,
            query.category or "",
            decision.score,
            decision.cost_usd,
            _recorded_tokens(part, row, decision)
            if records is None
            else _tokens(records[decision.query_id].answered),
        )
        for part in run.parts
        for row, (query, decision) in enumerate(
            zip(part.table.queries, part.judged[method].decisions, strict=True)
        )
    }
    return Side(f"{folder}:{method}", points)


def _method(run: ReplayRun, folder: Path, method: str) -> str:
    names = list(dict.fromkeys(name for part in run.parts for name in part.judged))
    if method:
        if method not in names:
            raise ConfigError(f"{str(folder)!r}: {unknown_name('method', method, names)}")
        return method
    own = [name for name in names if not is_reference(name) and name != SELF_MOA]
    if len(own) != 1:
        raise ConfigError(
            f"{str(folder)!r} has {len(own)} compositions; name a method behind a colon: {names}"
        )
    return own[0]


def _tokens(answered: Answered) -> float:
    if answered.prompt_tokens is None or answered.completion_tokens is None:
        return math.nan
    return float(answered.prompt_tokens + answered.completion_tokens)


def _recorded_tokens(part: JudgedPart, row: int, decision: Decision) -> float:
    """Of the recorded answers of those asked; NaN: not recorded, or nobody in particular."""
    table = part.table
    columns = [table.names.index(name) for name in decision.asked]
    if not columns or table.prompt_tokens is None or table.completion_tokens is None:
        return math.nan
    return float((table.prompt_tokens + table.completion_tokens)[row, columns].sum())
