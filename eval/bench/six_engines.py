"""The batch that benchmarks of the bulk driver run: queries to two of six engines each.

The engines are one small model in six folders, two propose at random, and one of the six writes the
answer of what they proposed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.assembly import compose
from composer.backends.sources import cache_dir
from composer.bulk import BatchProgress, BatchReport
from composer.experts import load_experts
from composer.orchestrator import Composer
from composer.pool.pool import Pool
from composer.pool.ray_runner import RayCluster, RayRunner
from eval.bench.models import ENGINE_ARGS, SMOL, registry
from eval.bench.result import note

N_EXPERTS = 6
MAX_TOKENS = 64
NAMES = tuple(f"smol{number}" for number in range(N_EXPERTS))
BY = NAMES[0]
"""Who writes the answer."""
PANEL = "panel"
QUERIES = "in.jsonl"
MEMORY_GIB = 4.5
"""Holds two of the engines, each in a process of its own."""
SETTINGS: Mapping[str, Any] = {"memory_gib": MEMORY_GIB, "busy_engines": 1, "warm_spares": 0}
"""Of the pool, where a benchmark says nothing else."""
DESCRIPTION: Mapping[str, Any] = {
    "model": "SmolLM2-135M-Instruct, as six folders",
    "k": 2,
    "max_tokens": MAX_TOKENS,
    "engine_args": ENGINE_ARGS,
}
"""What holds for every benchmark that runs such a batch."""
THINGS = ("river", "bread", "train", "volcano", "chess piece", "map", "bee", "glass", "clock")
PLACES = ("harbour", "forest", "station", "kitchen", "desert", "library", "mountain", "market")


async def make_batch(folder: Path, n_queries: int) -> None:
    """Put six model folders, which share their files, and the queries into a folder."""
    async with Pool(registry(["smol"], busy_engines=1, cores=os.cpu_count() or 1)) as pool:
        spec = await pool.resolve("smol")
    assert spec.model_path is not None, f"{SMOL} is a model"
    for name in NAMES:
        shutil.copytree(spec.model_path, folder / name, copy_function=_link)
    write_queries(folder, n_queries)


def write_queries(folder: Path, n_queries: int) -> None:
    """Write queries of 40 to 80 tokens, the same in each run, as a batch."""
    rng = random.Random(0)
    lines = [{"id": f"q{number}", "prompt": _prompt(rng, number)} for number in range(n_queries)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / QUERIES).write_text(text, "utf-8")


def write_experts(folder: Path, path: Path, settings: Mapping[str, Any]) -> None:
    """Write an experts.yaml of the six model folders.

    Args:
        folder: Where the model folders are.
        path: Of the file; its folder is made.
        settings: Of the pool, over `SETTINGS`.
    """
    experts: dict[str, Any] = {
        name: {
            "source": str(folder / name),
            "engine": "vllm",
            "engine_args": ENGINE_ARGS,
            "sampling": {"max_tokens": MAX_TOKENS, "temperature": 0.0},
        }
        for name in NAMES
    }
    panel = {
        "router": {"name": "random"},
        "choose": {"k": 2},
        "aggregator": {"name": "synthesis", "by": BY},
    }
    file = {"experts": experts, "compositions": {PANEL: panel}, "pool": {**SETTINGS, **settings}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(file), "utf-8")


def make_composer(path: Path, pool: type[Pool] = Pool) -> Composer:
    """A composer of an experts.yaml, whose measured figures are kept beside the file."""
    composer = compose(load_experts(path), cache=cache_dir())
    return Composer(
        composer.registry,
        composer.compositions,
        pool=pool(composer.registry, cache=path.parent / "cache"),
    )


async def run_batch(composer: Composer, queries: Path, run_dir: Path) -> tuple[BatchReport, float]:
    """What came of a batch, and its seconds."""
    told: set[int] = set()

    def tell(progress: BatchProgress) -> None:
        hundreds = progress.n_done // 100
        if progress.phase == "answer" and hundreds not in told:
            told.add(hundreds)
            note(f"  {progress.n_done} done, {progress.loads} loads, {progress.experts}")

    started_s = time.perf_counter()
    report = await composer.batch(queries, PANEL, run_dir, on_progress=tell)
    return report, time.perf_counter() - started_s


async def start_seconds() -> float:
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
