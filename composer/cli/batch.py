"""`composer batch`: a file of questions, each expert loaded as rarely as can be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from composer.cli.limits import BudgetTokens, BudgetUsd, MinShare, kept_to, read_budget
from composer.cli.options import (
    CompositionName,
    ExpertsPath,
    Output,
    OutputForm,
    Picture,
    Verbose,
    experts_path,
    set_up_logging,
)

if TYPE_CHECKING:
    from composer.bulk import BatchProgress, BatchReport
    from composer.bulk.marginal import LoadSaving

SAY_AGAIN_S = 5.0
"""Between two lines of progress, where stderr is no terminal."""


def batch(
    queries: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, a query each.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="RUN_DIR", help="What is asked and answered goes here.")
    ],
    composition: CompositionName = "auto",
    budget_usd: BudgetUsd = None,
    budget_tokens: BudgetTokens = None,
    min_share: MinShare = 0.0,
    experts: ExpertsPath = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A line that cannot be read is an error.")
    ] = False,
    picture: Picture = None,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Answer a file of questions, each expert loaded as rarely as can be.

    All are routed first; then engines are loaded one after the other, and each is asked all that
    waits for it. What was ended, by Ctrl-C or by a crash, goes on where it stood when the same
    command is given again; nothing is asked twice.

    A line of FILE has OpenAI's batch form (whose "method" and "url" may be there), or a plain one:

    {"custom_id": "q1", "body": {"messages": [{"role": "user", "content": "Why?"}]}}

    {"id": "q2", "prompt": "Why not?"}

    The first is answered in OpenAI's form. The composition answers, whatever model its body names,
    and draws the answer as the body says (temperature, top_p, stop, seed, max_tokens); other
    settings are ignored, and counted in a warning. A plain line may have "messages" in place of
    "prompt", a "category" and an "answer_type".

    RUN_DIR then holds results.jsonl (a line a query, as they are done; one that failed has an
    "error"), rejects.jsonl (lines that could not be read, and why), stages.jsonl (what each
    engine's turn took), journal.jsonl and the scores of the routing, by which a run goes on.

    Exits with 1 when no query is answered. `composer plan FILE` says beforehand what it would take.

    composer batch questions.jsonl --out runs/monday

    composer batch questions.jsonl --out runs/panel -c panel --picture stages.png
    """
    from composer.bulk.batch import STAGES
    from composer.cli.serving import EventLoop
    from composer.cli.stages_picture import check_picture

    set_up_logging(verbose)
    check_picture(picture)
    budget = read_budget(budget_usd, budget_tokens)
    with EventLoop() as loop:
        from composer.orchestrator import Composer

        made = Composer.from_yaml(experts_path(experts))

        async def run() -> BatchReport:
            async with made as composer:
                try:
                    with progress_shown() as show:
                        return await composer.batch(
                            queries,
                            composition,
                            out,
                            budget=budget,
                            min_share=min_share,
                            strict=strict,
                            on_progress=show,
                        )
                except asyncio.CancelledError:
                    typer.echo("ended early: the same command goes on from here", err=True)
                    raise

        report = loop.run(run())
    show_report(report, output)
    if picture is not None:
        draw_run(picture, out / STAGES)
    if report.n_answered == 0:
        from composer.cli.output import complain

        complain(f"no query was answered; {report.results} says why")
        raise typer.Exit(1)


def show_report(report: BatchReport, output: OutputForm) -> None:
    """What came of a batch: on stdout, with what went wrong on stderr."""
    from composer.cli.explain import make_table
    from composer.cli.output import stdout, write_json

    counts = {
        "queries": report.n_queries,
        "answered": report.n_answered,
        "failed": report.n_failed,
        "rejected": report.n_rejected,
        "loads": report.loads,
        "tokens": report.completion_tokens,
        "seconds": report.seconds,
    }
    if output == "json":
        saving = asdict(report.saving) if report.saving is not None else None
        joint = asdict(report.joint) if report.joint is not None else None
        places = {"results": str(report.results), "rejects": str(report.rejects)}
        found = {"saving": saving, "joint": joint, "ignored": report.ignored}
        write_json(counts | found | places)
    else:
        table = make_table(*counts)
        *whole, seconds = counts.values()
        table.add_row(*(f"{count:,}" for count in whole), f"{seconds:,.1f}")
        stdout().print(table)
        if report.saving is not None:
            typer.echo(spared(report.saving))
        for line in kept_to(report.joint) if report.joint is not None else ():
            typer.echo(line)
        typer.echo(f"results are in {report.results}")
    if report.n_failed:
        warn(f"failed: {report.n_failed} of {report.n_queries}; {report.results} says why")
    if report.n_rejected:
        warn(f"lines rejected: {report.n_rejected}; {report.rejects} says which and why")
    for setting, n in report.ignored.items():
        warn(f"{setting!r} is ignored (lines with it: {n})")


def spared(saving: LoadSaving) -> str:
    """What a composition's `load_weight` saves, and what that costs."""
    if not saving.spared:
        return "load_weight spares no expert's load"
    return (
        f"load_weight spares {saving.seconds:.1f} s of loading {', '.join(saving.spared)}, for "
        f"{saving.quality:.3g} of predicted quality in the mean"
    )


def warn(what: str) -> None:
    """Say on stderr what went wrong while the rest went well."""
    typer.echo(f"warning: {what}", err=True)


def draw_run(picture: Path, stages: Path) -> None:
    """Draw the stages of a batch as they went; where there were none, say so."""
    from composer.cli.stages_picture import bars_of_records, draw_stages, read_stages

    if not stages.exists() or not (records := read_stages(stages)):
        warn(f"{picture} is not drawn: no engine was asked")
        return
    bars, slots = bars_of_records(records)
    draw_stages(picture, bars, f"{stages.parent}: as it went", slots)


@contextmanager
def progress_shown() -> Generator[Callable[[BatchProgress], None]]:
    """Shows on stderr how far a batch is: a bar on a terminal, else lines now and then."""
    from rich import progress as bars

    from composer.cli.output import stderr

    console = stderr()
    if not console.is_terminal:
        yield make_teller(lambda line: typer.echo(line, err=True))
        return
    left = Countdown()
    with bars.Progress(
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    ) as shown:
        task = shown.add_task("starting", total=None)

        def show(progress: BatchProgress) -> None:
            shown.update(
                task,
                description=describe(progress, left.until(progress.left_s)),
                completed=progress.n_done,
                total=progress.n_queries,
            )

        yield show


def make_teller(
    tell: Callable[[str], None], now: Callable[[], float] = time.monotonic
) -> Callable[[BatchProgress], None]:
    """Tells progress in lines: when another engine has its turn, and else now and then."""
    left = Countdown(now)
    told: tuple[object, ...] = ()
    told_s = 0.0

    def show(progress: BatchProgress) -> None:
        nonlocal told, told_s
        left_s = left.until(progress.left_s)
        turn = (progress.phase, progress.experts)
        if turn != told or now() >= told_s + SAY_AGAIN_S:
            told, told_s = turn, now()
            tell(f"{progress.n_done} of {progress.n_queries} {describe(progress, left_s)}")

    return show


class Countdown:
    """What is left of an estimate that is made anew only when a stage begins."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left_s: float | None = None
        self._said_s = 0.0

    def until(self, left_s: float | None) -> float | None:
        """What is left of it now; None: there is no estimate."""
        if left_s != self._left_s:
            self._left_s, self._said_s = left_s, self._now()
        return None if left_s is None else max(0.0, left_s - (self._now() - self._said_s))


def describe(progress: BatchProgress, left_s: float | None) -> str:
    """How far a batch is, after the number of queries that are."""
    if progress.phase == "route":
        return "routed"
    said = ["annotated" if progress.phase == "annotate" else "done"]
    if progress.n_failed:
        said.append(f"{progress.n_failed} failed")
    if progress.experts:
        said.append(f"stage {progress.n_stages}: {' + '.join(progress.experts)}")
    said.append(f"requests {progress.requests:,} and {progress.requests_left:,} waiting")
    said.append(f"loads {progress.loads} and {progress.loads_left} to come")
    said.append(f"{progress.tokens_per_s:.0f} tokens/s")
    if left_s is not None:
        said.append(f"about {duration(left_s)} left")
    return ", ".join(said)


def duration(seconds: float) -> str:
    """As people say it: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
