"""A batch over six real engines with memory for two, against the same work without loads.

600 queries, two proposers of six each, synthesised by one of the six. `ideal_s` is the very same
requests, grouped by expert, on engines that are up and warm; `arrival_order_s` is the online driver
with LRU, one query after the other, on a sample that is extrapolated.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from composer.assembly import compose
from composer.backends.sources import cache_dir
from composer.bulk import BatchProgress, BatchReport
from composer.experts import load_experts
from composer.orchestrator import Composer
from composer.pool.pool import Pool
from composer.pool.ray_runner import RayCluster, RayRunner
from composer.types import Outcome, Request, RequestId
from eval.bench.models import ENGINE_ARGS, SMOL, registry
from eval.bench.result import BenchResult, load_average, median, note

N_QUERIES = 600
N_EXPERTS = 6
MAX_TOKENS = 64
N_SAMPLE = 6
"""Queries that are answered in arrival order."""
THINGS = ("river", "bread", "train", "volcano", "chess piece", "map", "bee", "glass", "clock")
PLACES = ("harbour", "forest", "station", "kitchen", "desert", "library", "mountain", "market")


class RecordingPool(Pool):
    """A pool that remembers what it was asked."""

    asked: list[Request]

    async def run(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[RequestId, Outcome]]:
        """See `Pool.run`."""
        self.asked.extend(requests)
        async with aclosing(super().run(requests)) as outcomes:
            async for outcome in outcomes:
                yield outcome


def bench_bulk() -> BenchResult:
    """Seconds of a batch, of its parts, and of the alternatives."""
    return asyncio.run(_bulk())


async def _bulk() -> BenchResult:
    before = load_average()
    folder = Path(tempfile.mkdtemp(prefix="composer-bulk-"))
    try:
        path = await _write(folder)
        start_s = await _start_seconds()
        note(f"start {start_s:.1f} s; {N_QUERIES} queries in bulk")
        async with _composer(path, folder) as composer:
            pool = composer.pool
            assert isinstance(pool, RecordingPool)
            report, wall_s = await _batch(composer, folder)
            asked = list(pool.asked)
        note(f"wall {wall_s:.1f} s, {report.loads} loads; the same requests without loads")
        ideal_s, tokens = await _ideal(path, folder, asked)
        note(f"ideal {ideal_s:.1f} s; {N_SAMPLE} queries in arrival order")
        arrival_s, arrival_loads = await _arrival(path, folder)
    finally:
        shutil.rmtree(folder)
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
    return BenchResult(
        "bulk",
        figures,
        {
            "model": "SmolLM2-135M-Instruct, as six folders",
            "queries": N_QUERIES,
            "k": 2,
            "max_tokens": MAX_TOKENS,
            "failed": report.n_failed,
            "memory": "for two of six engines",
            "ideal_s": "all requests of the batch by expert, on engines that are up and warm",
            "allowed_s": "1.25 x ideal_s + 7 x median_load_s + start_s",
            "arrival_order_s": f"{N_SAMPLE} queries one after the other, extrapolated",
            "engine_args": ENGINE_ARGS,
            "stages": [asdict(stage) for stage in report.stages],
            "load_average": [before, load_average()],
        },
    )


async def _write(folder: Path) -> Path:
    """An experts.yaml of six model folders, and the queries."""
    async with Pool(registry(["smol"], busy_engines=1, cores=os.cpu_count() or 1)) as pool:
        spec = await pool.resolve("smol")
    assert spec.model_path is not None, f"{SMOL} is a model"
    names = [f"smol{number}" for number in range(N_EXPERTS)]
    for name in names:
        shutil.copytree(spec.model_path, folder / name, copy_function=_link)
    experts: dict[str, Any] = {
        name: {
            "source": str(folder / name),
            "engine": "vllm",
            "engine_args": ENGINE_ARGS,
            "sampling": {"max_tokens": MAX_TOKENS, "temperature": 0.0},
        }
        for name in names
    }
    panel = {
        "router": {"name": "random"},
        "choose": {"k": 2},
        "aggregator": {"name": "synthesis", "by": names[0]},
    }
    settings = {"memory_gib": 4.5, "busy_engines": 1, "warm_spares": 0}
    path = folder / "experts.yaml"
    path.write_text(
        json.dumps({"experts": experts, "compositions": {"panel": panel}, "pool": settings}),
        "utf-8",
    )
    rng = random.Random(0)
    lines = [{"id": f"q{number}", "prompt": _prompt(rng, number)} for number in range(N_QUERIES)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "in.jsonl").write_text(text, "utf-8")
    return path


def _prompt(rng: random.Random, number: int) -> str:
    """40 to 80 tokens that ask for more than an answer may be long."""
    things = ", ".join(rng.choices(THINGS, k=rng.randint(4, 14)))
    return (
        f"Write a long story, number {number}, that takes place in a {rng.choice(PLACES)} and has "
        f"all of these in it, each described at length: {things}."
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _composer(path: Path, folder: Path) -> Composer:
    composer = compose(load_experts(path), cache=cache_dir())
    pool = RecordingPool(composer.registry, cache=folder / "cache")
    pool.asked = []
    return Composer(composer.registry, composer.compositions, pool=pool)


async def _start_seconds() -> float:
    """Until a process is there that an engine can be loaded into."""
    started_s = time.perf_counter()
    cluster = RayCluster()
    await cluster.start()
    try:
        runner = RayRunner("vllm", threads=os.cpu_count() or 1, options={})
        await runner.started()
        seconds = time.perf_counter() - started_s
        await runner.kill()
    finally:
        await cluster.stop()
    return seconds


async def _batch(composer: Composer, folder: Path) -> tuple[BatchReport, float]:
    def tell(progress: BatchProgress) -> None:
        if progress.phase == "answer" and progress.n_done % 100 == 0:
            note(f"  {progress.n_done} done, {progress.loads} loads, {progress.experts}")

    started_s = time.perf_counter()
    report = await composer.batch(folder / "in.jsonl", "panel", folder / "run", on_progress=tell)
    return report, time.perf_counter() - started_s


async def _ideal(path: Path, folder: Path, asked: Sequence[Request]) -> tuple[float, int]:
    """Seconds and tokens of requests that an engine which is up and warm is asked at once."""
    seconds, tokens = 0.0, 0
    async with Pool(load_experts(path), cache=folder / "cache") as pool:
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


async def _arrival(path: Path, folder: Path) -> tuple[float, int]:
    """Seconds a query, and loads, of the online driver after a query that starts everything."""
    lines = (folder / "in.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines[: N_SAMPLE + 1]]
    composer = compose(load_experts(path), cache=cache_dir())
    pool = Pool(composer.registry, cache=folder / "cache")
    async with Composer(composer.registry, composer.compositions, pool=pool) as online:
        await online.ask(prompts[0], composition="panel")
        n_loads, started_s = pool.n_loads, time.perf_counter()
        for prompt in prompts[1:]:
            await online.ask(prompt, composition="panel")
        return (time.perf_counter() - started_s) / N_SAMPLE, pool.n_loads - n_loads
