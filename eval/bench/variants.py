"""One batch by the bulk driver under settings of the pool, each from nothing to the end.

All variants run once and then once more in the opposite order, so that a machine that grows slower
meets each alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from composer.bulk.progress import StageRecord
from eval.bench.result import BenchResult, load_average, median, note
from eval.bench.six_engines import (
    DESCRIPTION,
    MEMORY_GIB,
    QUERIES,
    SETTINGS,
    make_batch,
    make_composer,
    run_batch,
    start_seconds,
    write_experts,
)

N_QUERIES = 60
SPARE_GIB = 1.0
"""What a spare process holds that has imported vLLM."""
DEFAULTS = "defaults"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    DEFAULTS: {},
    "load_ahead": {"load_ahead": True},
    "warm_spare": {
        "load_ahead": True,
        "keep_processes": False,
        "warm_spares": 1,
        "memory_gib": MEMORY_GIB + SPARE_GIB,
    },
    "fresh_process": {"keep_processes": False},
    "two_busy": {"busy_engines": 2},
}
"""What each changes of `SETTINGS`, in the order in which they run."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One variant's batch."""

    wall_s: float
    loads: int
    completion_tokens: int
    n_failed: int
    stages: tuple[StageRecord, ...]


def bench_variants() -> BenchResult:
    """Seconds, loads and tokens/s of each variant. Each starts and ends everything it needs."""
    with TemporaryDirectory(prefix="composer-variants-") as folder:
        return asyncio.run(_variants(Path(folder)))


async def _variants(folder: Path) -> BenchResult:
    before = load_average()
    await make_batch(folder, N_QUERIES)
    # The first import of vLLM also reads it from the disk, which no variant should pay for.
    start_s = await start_seconds()
    note(f"start {start_s:.1f} s; {N_QUERIES} queries by each variant")
    ran: dict[str, list[Ran]] = {name: [] for name in VARIANTS}
    for number, names in enumerate((list(VARIANTS), list(VARIANTS)[::-1])):
        for name in names:
            ran[name].append(await _run_one(folder, f"{name}{number}", VARIANTS[name]))
            note(f"{name}: {ran[name][-1].wall_s:.1f} s, {ran[name][-1].loads} loads")
    return BenchResult(
        "variants",
        {"start_s": start_s, **make_figures(ran)},
        {
            **DESCRIPTION,
            "queries": N_QUERIES,
            "failed": {name: sum(run.n_failed for run in runs) for name, runs in ran.items()},
            "memory": f"for two of six engines, and {SPARE_GIB:g} GiB for a spare process",
            "pool": {name: {**SETTINGS, **settings} for name, settings in VARIANTS.items()},
            "order": "two runs each, in the order of `pool` and in the opposite one, each from "
            "nothing to the end; what a run measures of its engines is kept from the others",
            "wall_s": {name: [run.wall_s for run in runs] for name, runs in ran.items()},
            "stages": {
                name: [asdict(stage) for stage in runs[0].stages] for name, runs in ran.items()
            },
            "load_average": [before, load_average()],
        },
    )


async def _run_one(folder: Path, name: str, settings: Mapping[str, Any]) -> Ran:
    path = folder / name / "experts.yaml"
    write_experts(folder, path, settings)
    async with make_composer(path) as composer:
        report, wall_s = await run_batch(composer, folder / QUERIES, path.parent / "run")
    return Ran(wall_s, report.loads, report.completion_tokens, report.n_failed, report.stages)


def make_figures(ran: Mapping[str, Sequence[Ran]]) -> dict[str, float]:
    """The mean seconds of each variant's runs, also beside those of the defaults.

    `_spread_s` is by how much its slowest run is above its fastest.
    """
    figures: dict[str, float] = {}
    for name, runs in ran.items():
        load_s = [stage.load_s for run in runs for stage in run.stages if stage.load_s]
        wall_s = [run.wall_s for run in runs]
        figures |= {
            f"{name}_s": mean(wall_s),
            f"{name}_spread_s": max(wall_s) - min(wall_s),
            f"{name}_loads": mean(run.loads for run in runs),
            f"{name}_median_load_s": median(load_s),
            f"{name}_tokens_per_s": sum(run.completion_tokens for run in runs) / sum(wall_s),
            f"{name}_ratio": mean(wall_s) / mean(run.wall_s for run in ran[DEFAULTS]),
        }
    return figures
