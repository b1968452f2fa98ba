"""A batch over six real engines with memory for two, against the same work without loads.

600 queries, two proposers of six each, synthesised by one of the six. `ideal_s` is the very same
requests, grouped by expert, on engines that are up and warm; `arrival_order_s` is the online driver
with LRU, one query after the other, on a sample that is extrapolated, and `multiplexed_s` the same
by Ray Serve's model multiplexing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from composer.backends.sources import cache_dir
from composer.bulk.lines import Batch
from composer.experts import load_experts
from composer.pool.pool import Pool
from composer.types import Outcome, Query, Request, RequestId
from eval.bench.multiplexed import HOW, make_work, run_multiplexed
from eval.bench.result import BenchResult, load_average, median, note
from eval.bench.six_engines import (
    BY,
    DESCRIPTION,
    N_EXPERTS,
    PANEL,
    QUERIES,
    make_batch,
    make_composer,
    run_batch,
    start_seconds,
    write_experts,
)

N_QUERIES = 600
N_SAMPLE = 6
"""Queries that are answered in arrival order."""


class RecordingPool(Pool):
    """A pool that remembers what it was asked."""

    asked: list[Request]

    async def run(
        self, requests: Sequence[Request], *, replica: int | None = None
    ) -> AsyncGenerator[tuple[RequestId, Outcome]]:
        """See `Pool.run`."""
        self.asked.extend(requests)
        async with aclosing(super().run(requests, replica=replica)) as outcomes:
            async for outcome in outcomes:
                yield outcome


def bench_bulk() -> BenchResult:
    """Seconds of a batch, of its parts, and of the alternatives."""
    with TemporaryDirectory(prefix="composer-bulk-") as folder:
        return asyncio.run(_bulk(Path(folder)))


async def _bulk(folder: Path) -> BenchResult:
    before = load_average()
    path, queries = folder / "experts.yaml", folder / QUERIES
    await make_batch(folder, N_QUERIES)
    write_experts(folder, path, {})
    start_s = await start_seconds()
    note(f"start {start_s:.1f} s; {N_QUERIES} queries in bulk")
    async with make_composer(path, RecordingPool) as composer:
        pool = composer.pool
        assert isinstance(pool, RecordingPool)
        pool.asked = []
        report, wall_s = await run_batch(composer, queries, folder / "run")
        asked = list(pool.asked)
    note(f"wall {wall_s:.1f} s, {report.loads} loads; the same requests without loads")
    ideal_s, tokens = await _ideal(path, asked)
    note(f"ideal {ideal_s:.1f} s; {N_SAMPLE} queries in arrival order")
    with Batch(queries) as batch:
        first = [batch.query(row) for row in range(N_SAMPLE + 1)]
    arrival_s, arrival_loads = await _arrival(path, first)
    note(f"arrival order {arrival_s:.1f} s a query; the same by Ray Serve's multiplexing")
    taken = run_multiplexed(make_work(load_experts(path), asked, BY, N_SAMPLE), cache_dir())
    median_load_s = median([stage.load_s for stage in report.stages if stage.load_s])
    allowed_s = 1.25 * ideal_s + (N_EXPERTS + 1) * median_load_s + start_s
    figures = {
        "loads": float(report.loads),
        "wall_s": wall_s,
        "ideal_s": ideal_s,
        "median_load_s": median_load_s,
        "start_s": start_s,
        "allowed_s": allowed_s,
        "wall_to_allowed": wall_s / allowed_s,
        "requests": float(len(asked)),
        "completion_tokens": float(report.completion_tokens),
        "ideal_tokens_per_s": tokens / ideal_s,
        "arrival_order_s": arrival_s * N_QUERIES,
        "arrival_order_loads_per_query": arrival_loads / N_SAMPLE,
        "arrival_order_ratio": arrival_s * N_QUERIES / wall_s,
    }
    if taken is not None:
        figures |= taken.figures(N_QUERIES, wall_s)
    return BenchResult(
        "bulk",
        figures,
        {
            **DESCRIPTION,
            "queries": N_QUERIES,
            "failed": report.n_failed,
            "memory": "for two of six engines",
            "ideal_s": "all requests of the batch by expert, on engines that are up and warm",
            "allowed_s": "1.25 x ideal_s + 7 x median_load_s + start_s",
            "arrival_order_s": f"{N_SAMPLE} queries one after the other, extrapolated",
            "multiplexed_s": "not measured"
            if taken is None
            else f"{HOW}; {N_SAMPLE} queries one after the other, extrapolated",
            "stages": [asdict(stage) for stage in report.stages],
            "load_average": [before, load_average()],
        },
    )


async def _ideal(path: Path, asked: Sequence[Request]) -> tuple[float, int]:
    """Seconds and tokens of requests that an engine which is up and warm is asked at once."""
    seconds, tokens = 0.0, 0
    async with Pool(load_experts(path), cache=path.parent / "cache") as pool:
        for expert in sorted({request.expert for request in asked}):
            mine = [replace(r, deadline_s=3600.0) for r in asked if r.expert == expert]
            warm = [replace(r, id=f"warm/{r.id}") for r in mine[:32]]
            await _run(pool, warm)
            started_s = time.perf_counter()
            tokens += await _run(pool, mine)
            seconds += time.perf_counter() - started_s
    return seconds, tokens


async def _run(pool: Pool, requests: Sequence[Request]) -> int:
    tokens = 0
    async with aclosing(pool.run(requests)) as outcomes:
        async for _, outcome in outcomes:
            tokens += getattr(outcome, "completion_tokens", 0)
    return tokens


async def _arrival(path: Path, queries: Sequence[Query]) -> tuple[float, int]:
    """Seconds a query, and loads, of the online driver after a query that starts everything."""
    first, *others = queries
    async with make_composer(path) as online:
        await online.ask(first, composition=PANEL)
        n_loads, started_s = online.pool.n_loads, time.perf_counter()
        for query in others:
            await online.ask(query, composition=PANEL)
        return (time.perf_counter() - started_s) / N_SAMPLE, online.pool.n_loads - n_loads
