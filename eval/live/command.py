"""`python -m eval run`: tasks asked of real experts, and of compositions of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from composer.errors import ConfigError
from composer.orchestrator import Composer
from eval.live.folder import Options
from eval.live.output import print_attributions, print_json
from eval.live.run import LiveRun, run_live
from eval.progress import Bars, open_bars
from eval.replay.output import Output, print_rows
from eval.tasks.registry import limit as limited
from eval.tasks.registry import load_task


def run_command(
    task: Annotated[
        list[str], typer.Option("--task", help="A task, as `python -m eval tasks` lists them.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="RUN_DIR", help="Keeps everything; the same command resumes.")
    ],
    composition: Annotated[
        list[str] | None,
        typer.Option(
            "--composition", "-c", help="A composition of experts.yaml, or one expert alone."
        ),
    ] = None,
    experts: Annotated[Path, typer.Option(help="Which experts.yaml.")] = Path("experts.yaml"),
    n: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="At most so many questions of each task and split."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="An expert to ask alone. Left out: all.")
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Recorded outcomes of these experts, on whose train split the best single one is "
            "chosen. Left out: train questions of the tasks are asked.",
        ),
    ] = None,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Ask compositions one question after the other, and time it."
        ),
    ] = False,
    known_category: Annotated[
        bool, typer.Option("--known-category", help="Tell compositions each question's category.")
    ] = False,
    ask_again: Annotated[
        bool,
        typer.Option(
            "--ask-again",
            help="Have compositions ask experts anew what these said alone. Left out: a greedy "
            "answer to the same question counts for both.",
        ),
    ] = False,
    no_self_moa: Annotated[
        bool,
        typer.Option(
            "--no-self-moa",
            help="Leave out the best single expert with as many samples as compositions have.",
        ),
    ] = False,
    drop_leaks: Annotated[
        bool,
        typer.Option("--drop-leaks", help="Leave out train questions that are in test as well."),
    ] = False,
    allow_code_execution: Annotated[
        bool,
        typer.Option(
            "--allow-code-execution", help="Run what experts write, where a task is scored by that."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the resampling behind the intervals.")] = 0,
    output: Annotated[Output, typer.Option(help="How to print it.")] = "table",
) -> None:
    """Ask experts and compositions the questions of tasks, and say what composing is worth.

    Every expert is asked every question, then each composition; each engine is loaded as rarely as
    can be. Prints the ladder (a random expert, the best single one on train, each expert, each
    composition, the oracle) with 95 % intervals, and where each gain over the best single expert
    comes from. Exits with 1 if an expert answered nothing.

    python -m eval run --task starter --limit 40 -c auto -c panel --out runs/starter

    python -m eval run --task cases.jsonl -c auto --online --out runs/online
    """
    tasks = [
        load_task(name, allow_code_execution=allow_code_execution, drop_leaks=drop_leaks)
        for name in dict.fromkeys(task)
    ]
    if n is not None:
        tasks = [limited(each, n) for each in tasks]
    options = Options(
        tuple(dict.fromkeys(only or ())),
        n,
        known_category,
        online,
        ask_again,
        not no_self_moa,
        seed,
    )
    made = Composer.from_yaml(experts)

    async def run() -> LiveRun:
        with open_bars() as bars:
            async with made as composer:
                return await run_live(
                    composer,
                    tasks,
                    composition or [],
                    out,
                    options,
                    outcomes=outcomes,
                    on_progress=follow(bars),
                )

    found = asyncio.run(run())
    if output == "json":
        print_json({**found.as_json, "attribution": [e.to_json() for e in found.attributions]})
    else:
        print_rows(found.rows, output, found.as_json)
        print_attributions(found.attributions, output)
    _warn(found)
    if found.silent:
        names = ", ".join(map(repr, found.silent))
        why = next(iter(found.silent.values()))
        raise ConfigError(
            f"nothing was answered by {names} ({why}); mend that and run the same command again, "
            "or leave it out with --only in another folder"
        )


def follow(bars: Bars) -> Callable[[str, int, int], None]:
    """Shows as a bar what is being done, how much of it is done, and how much there is."""
    shown, seen, advance = "", 0, lambda: None

    def show(what: str, done: int, total: int) -> None:
        nonlocal shown, seen, advance
        if what != shown:
            shown, seen, advance = what, 0, bars.on_rows(what, total)
        for _ in range(done - seen):
            advance()
        seen = max(seen, done)

    return show


def _warn(found: LiveRun) -> None:
    """Say on stderr what has no answer, and what could not run."""
    for method, records in found.unanswered.items():
        answered = records[0].answered
        typer.echo(
            f"warning: {method}: {len(records)} queries without an answer count as wrong, first "
            f"{answered.id!r}: {answered.error}",
            err=True,
        )
    for each in found.as_json["not_run"]:
        typer.echo(f"warning: {each['method']}: not run, {each['reason']}", err=True)
