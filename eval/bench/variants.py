"""One batch by the bulk driver under settings of the pool, each from nothing to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
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

N_QUERIES = 30
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
    ran: dict[str, Ran] = {}
    for name, settings in VARIANTS.items():
        path = folder / name / "experts.yaml"
        write_experts(folder, path, settings)
        async with make_composer(path) as composer:
            report, wall_s = await run_batch(composer, folder / QUERIES, path.parent / "run")
        ran[name] = Ran(
            wall_s, report.loads, report.completion_tokens, report.n_failed, report.stages
        )
        note(f"{name}: {wall_s:.1f} s, {report.loads} loads")
    return BenchResult(
        "variants",
        {"start_s": start_s, **make_figures(ran)},
        {
            **DESCRIPTION,
            "queries": N_QUERIES,
            "failed": {name: each.n_failed for name, each in ran.items()},
            "memory": f"for two of six engines, and {SPARE_GIB:g} GiB for a spare process",
            "pool": {name: {**SETTINGS, **settings} for name, settings in VARIANTS.items()},
            "order": "one run each, in the order of `pool`, each from nothing to the end; what a "
            "variant measures of its engines is kept from the others",
            "stages": {
                name: [asdict(stage) for stage in each.stages] for name, each in ran.items()
            },
            "load_average": [before, load_average()],
        },
    )


def make_figures(ran: Mapping[str, Ran]) -> dict[str, float]:
    """The figures of each variant, and its seconds beside those of the defaults."""
    figures: dict[str, float] = {}
    for name, each in ran.items():
        load_s = [stage.load_s for stage in each.stages if stage.load_s]
        figures |= {
            f"{name}_s": each.wall_s,
            f"{name}_loads": float(each.loads),
            f"{name}_median_load_s": median(load_s),
            f"{name}_tokens_per_s": each.completion_tokens / each.wall_s,
            f"{name}_ratio": each.wall_s / ran[DEFAULTS].wall_s,
        }
    return figures
