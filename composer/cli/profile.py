"""`composer profile`: how well each expert does on labelled cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from composer.cli.options import ExpertsPath, Output, Verbose, experts_path, set_up_logging
from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from composer.profile import Profile, Progress
    from composer.types import Failure
    from routers.learning import Learner


def profile(
    cases: Annotated[
        Path, typer.Argument(metavar="CASES", help="JSON lines; or `starter`: those shipped.")
    ],
    save: Annotated[Path, typer.Option("--save", metavar="DIR", help="Where outcomes are kept.")],
    experts: ExpertsPath = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="An expert to ask. Left out: all.")
    ] = None,
    annotate: Annotated[
        list[str] | None,
        typer.Option(
            "--annotate",
            metavar="ROUTER[:EXPERT]",
            help="Annotate the queries for a router that asks experts; EXPERT: whom it asks.",
        ),
    ] = None,
    aggregators: Annotated[
        bool,
        typer.Option(
            "--aggregators",
            help="Measure too how well each expert synthesises others' answers to train cases.",
        ),
    ] = False,
    in_flight: Annotated[
        int | None,
        typer.Option(
            "--in-flight", min=1, help="Requests of an engine at one time. Left out: 256."
        ),
    ] = None,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Ask every expert all cases, and save how well each did.

    Routers that learn are fitted on it. A run that was ended goes on where it stopped when the
    same command is given again; what failed is then asked again. A case is a JSON object:
    id, prompt, reference, answer_type (choice, number, yes_no or text), category (or null), and
    split (left out: train).

    composer profile cases.jsonl --save profiles/mine

    composer profile cases.jsonl --save profiles/mine --only smol --annotate skill:smol

    composer profile cases.jsonl --save profiles/mine --aggregators
    """
    from composer.cli.output import complain, stdout, write_json
    from composer.cli.serving import EventLoop

    set_up_logging(verbose)
    with EventLoop() as loop:
        from composer.aggregators.synthesis.measured import save_scores
        from composer.experts import load_experts, unset_secrets
        from composer.outcomes import save_table
        from composer.profile import read_cases
        from composer.starter import CASES

        wanted = read_cases(CASES if cases == Path("starter") else cases)
        registry = load_experts(experts_path(experts))
        if unset := unset_secrets(registry):
            raise ConfigError(f"{registry.path}: {unset[0]}")
        made = _annotators(annotate or ())
        options: dict[str, Any] = {} if in_flight is None else {"in_flight": in_flight}

        async def run() -> Profile:
            from composer.pool.pool import Pool
            from composer.profile import profile as run_profile

            with progress_bar() as show:
                async with Pool(registry) as pool:
                    return await run_profile(
                        wanted,
                        registry,
                        pool,
                        save,
                        experts=only,
                        annotators=made,
                        aggregators=aggregators,
                        on_progress=show,
                        **options,
                    )

        found = loop.run(run())
    save_table(found.table, save)
    if aggregators:
        save_scores(save, found.aggregators)
    rows, failures = _rows(found.table), _counted(found.failures)
    if output == "json":
        said = {"folder": str(save), "cases": len(wanted), "experts": rows, "failures": failures}
        write_json(said | {"aggregators": [score.to_json() for score in found.aggregators]})
    else:
        from composer.cli.explain import make_table

        table = make_table("expert", "cases", "failed", "accuracy", "USD", "s a case", "tokens")
        for row in rows:
            table.add_row(*map(_cell, row.values()))
        stdout().print(table)
        if aggregators:
            table = make_table("aggregating expert", "cases", "accuracy", "95 % interval")
            for score in found.aggregators:
                table.add_row(*map(_cell, (score.expert, score.n, score.accuracy, score.interval)))
            stdout().print(table)
        typer.echo(f"saved in {save}")
    for failure in failures:
        typer.echo(
            f"warning: expert {failure['expert']!r}: {failure['n']} failed ({failure['kind']}), "
            f"first: {failure['message']}; the same command asks again",
            err=True,
        )
    silent = [row["expert"] for row in rows if row["failed"] == row["cases"]]
    for name in silent:
        complain(f"expert {name!r} answered no case; mend it, or leave it out with --only")
    if silent:
        raise typer.Exit(1)


@contextmanager
def progress_bar() -> Generator[Callable[[Progress], None]]:
    """A bar on stderr, gone when done; silent where stderr is no terminal."""
    from rich import progress as bars

    from composer.cli.output import stderr

    console = stderr()
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as shown:
        task = shown.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            failed = f", {progress.failed} failed" if progress.failed else ""
            shown.update(
                task,
                description=f"{progress.what}: {progress.expert}{failed}",
                completed=progress.done,
                total=progress.total,
            )

        yield show


def _annotators(named: Sequence[str]) -> Mapping[str, Learner]:
    """The algorithm of each ROUTER[:EXPERT], by the router's name."""
    from composer.assembly import default_encoder
    from composer.backends.sources import cache_dir
    from routers import make_learner

    encoder = default_encoder(cache_dir())
    made: dict[str, Learner] = {}
    for name in named:
        router, _, expert = name.partition(":")
        settings = {"annotator": expert} if expert else {}
        made[router] = make_learner(router, settings, encoder=encoder)
    return made


def _rows(table: OutcomeTable) -> list[dict[str, Any]]:
    """What each expert came to; None: it answered nothing."""
    import numpy as np

    failed = np.isnan(table.score).sum(axis=0)
    rows: list[dict[str, Any]] = []
    for column, name in enumerate(table.names):
        known = ~np.isnan(table.score[:, column])
        amounts = {
            amount: cells[known, column].astype(np.float64)
            for amount, cells in table.cells().items()
            if amount not in ("answers", "texts")
        }
        some = bool(known.any())
        rows.append(
            {
                "expert": name,
                "cases": len(known),
                "failed": int(failed[column]),
                "accuracy": float(amounts["score"].mean()) if some else None,
                "cost_usd": float(amounts["cost_usd"].sum()),
                "latency_s": float(amounts["latency_s"].mean()) if some else None,
                "completion_tokens": int(amounts["completion_tokens"].sum()),
            }
        )
    return rows


def _counted(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    """Failures of a kind of an expert together, with the words of the first."""
    counts = Counter((failure.expert, failure.kind) for failure in failures)
    first = {(f.expert, f.kind): f.message for f in reversed(failures)}
    return [
        {"expert": expert, "kind": kind, "n": n, "message": first[expert, kind]}
        for (expert, kind), n in counts.items()
    ]


def _cell(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        return " to ".join(map(_cell, cast("tuple[float, float]", value)))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
