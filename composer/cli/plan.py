"""`composer plan`: what a batch would take, and what one took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from composer.cli.limits import BudgetTokens, BudgetUsd, MinShare, read_budget
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
from composer.errors import ConfigError
from composer.suggest import unknown_name

if TYPE_CHECKING:
    from composer.bulk.dry_run import DryRun
    from composer.bulk.limits import Limits
    from composer.bulk.progress import StageRecord
    from composer.cli.stages_picture import Bar
    from composer.orchestrator import Composer


def plan(
    queries: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="JSON lines, as `composer batch` takes them."),
    ] = None,
    composition: CompositionName = "auto",
    budget_usd: BudgetUsd = None,
    budget_tokens: BudgetTokens = None,
    min_share: MinShare = 0.0,
    experts: ExpertsPath = None,
    rates: Annotated[
        Path | None,
        typer.Option(
            "--rates",
            metavar="FILE",
            help="The stages.jsonl of a batch before: how fast engines were. Left out: guesses.",
        ),
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(
            "--after", metavar="RUN_DIR", help="Show the stages of this batch as they went instead."
        ),
    ] = None,
    picture: Picture = None,
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Say what a batch would take; no engine is loaded and no expert is asked.

    All queries are routed, and what they ask is planned: which engine has its turn when on which
    slot, how many loads, tokens, seconds and US dollars, and how much memory of what may be used.
    What is guessed or left out is said. Seconds to load and memory are those measured when an
    engine was last loaded here.

    composer plan questions.jsonl -c panel

    composer plan questions.jsonl --rates runs/monday/stages.jsonl --picture plan.svg

    composer plan --after runs/monday --picture monday.png
    """
    from composer.cli.stages_picture import check_picture, draw_stages, read_stages

    set_up_logging(verbose)
    if (queries is None) == (after is None):
        raise ConfigError("name either a file of queries or --after RUN_DIR")
    check_picture(picture)
    if after is not None:
        title = f"{after}: as it went"
        bars, slots = show_run(after, output)
    else:
        assert queries is not None, "one of them is given"
        title = f"{queries.name}, {composition}: as planned"
        records = read_stages(rates) if rates is not None else ()
        from composer.bulk.limits import Limits

        limits = Limits(read_budget(budget_usd, budget_tokens), min_share)
        bars, slots = show_plan(
            queries, experts_path(experts), composition, limits, records, output
        )
    if picture is not None:
        if not bars:
            raise ConfigError("there is no stage to draw; leave out --picture")
        draw_stages(picture, bars, title, slots)


def show_plan(
    queries: Path,
    path: Path,
    composition: str,
    limits: Limits,
    records: Sequence[StageRecord],
    output: OutputForm,
) -> tuple[list[Bar], int]:
    """Plan a batch and print that; its bars, and on how many slots."""
    from composer.cli.output import write_json
    from composer.cli.plan_tables import plan_json, print_plan
    from composer.cli.serving import EventLoop
    from composer.cli.stages_picture import bars_of_plan

    with EventLoop() as loop:
        from composer.backends.sources import cache_dir
        from composer.bulk.dry_run import dry_run

        made = composer_of(path, composition)

        async def run() -> DryRun:
            async with made as composer:
                return await dry_run(
                    queries,
                    composer.compositions[composition],
                    composer.registry,
                    composer.pool,
                    models=cache_dir() / "models",
                    limits=limits,
                    measured=records,
                )

        planned = loop.run(run())
    if output == "json":
        write_json(plan_json(planned))
    else:
        print_plan(planned)
    bars = bars_of_plan(planned.plan, planned.experts, planned.slots)
    return bars, sum(planned.slots.values())


def composer_of(path: Path, name: str) -> Composer:
    """A composer of one composition alone; of an expert's name, that expert answers by itself.

    Raises:
        ConfigError: There is neither, or it cannot work.
    """
    from composer.assembly import compose
    from composer.experts import Composition, RouterConfig, load_experts

    registry = load_experts(path)
    composition = registry.compositions.get(name)
    if composition is None and name in registry.experts:
        fixed = RouterConfig.model_validate({"name": "fixed", "expert": name})
        composition = Composition(router=fixed)
    if composition is None:
        known = [*registry.compositions, *registry.experts]
        raise ConfigError(unknown_name("composition", name, known))
    return compose(replace(registry, compositions={name: composition}))


def show_run(folder: Path, output: OutputForm) -> tuple[list[Bar], int]:
    """Print the stages of a batch as they went; their bars, and on how many slots."""
    from dataclasses import asdict

    from composer.bulk.batch import STAGES
    from composer.cli.explain import make_table
    from composer.cli.output import stdout, write_json
    from composer.cli.stages_picture import bars_of_records, read_stages

    records = read_stages(folder / STAGES)
    if output == "json":
        write_json([asdict(record) for record in records])
    else:
        table = make_table("experts", "requests", "tokens", "load s", "from s", "until s")
        for record in records:
            counts = (f"{record.requests:,}", f"{record.completion_tokens:,}")
            times = (f"{t:,.1f}" for t in (record.load_s, record.start_s, record.end_s))
            table.add_row(", ".join(record.experts), *counts, *times)
        stdout().print(table)
    return bars_of_records(records)
