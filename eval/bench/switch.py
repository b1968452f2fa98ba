"""Seconds until another expert says its first token: reused, warm and fresh processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import replace

from composer.pool.pool import Pool
from composer.pool.ray_runner import RayCluster, RayRunner
from composer.types import Completion, EngineSpec
from eval.bench.models import ENGINE_ARGS, registry, requests
from eval.bench.result import BenchResult, load_average, median, note

ROUNDS = 3


def bench_switch() -> BenchResult:
    """Three alternating rounds; medians. `ratio` is fresh / warm."""
    return asyncio.run(_switch())


async def _switch() -> BenchResult:
    cores = os.cpu_count() or 1
    before = load_average()
    async with Pool(registry(["smol"], busy_engines=1, cores=cores)) as pool:
        spec = await pool.resolve("smol")
    cluster = RayCluster()
    await cluster.start()
    taken: dict[str, list[float]] = {"emptying": [], "reused": [], "warm": [], "fresh": []}
    try:
        for number in range(ROUNDS):
            runner = RayRunner("vllm", threads=cores, options={})
            await runner.started()
            taken["warm"].append(await _first_token(runner, spec, number))
            started_s = time.perf_counter()
            await runner.unload()
            taken["emptying"].append(time.perf_counter() - started_s)
            reloaded = await _first_token(runner, spec, number)
            taken["reused"].append(taken["emptying"][-1] + reloaded)
            await runner.kill()
            taken["fresh"].append(await _fresh(spec))
            note(f"round {number}: " + ", ".join(f"{k} {v[-1]:.1f} s" for k, v in taken.items()))
    finally:
        await cluster.stop()
    figures = {f"{name}_s": median(values) for name, values in taken.items()}
    figures["ratio"] = median([f / w for f, w in zip(taken["fresh"], taken["warm"], strict=True)])
    return BenchResult(
        "switch",
        figures,
        {
            "model": "SmolLM2-135M-Instruct",
            "rounds": ROUNDS,
            "threads": cores,
            "engine_args": ENGINE_ARGS,
            "reused": "emptying the runner + load + first token",
            "warm": "load + first token in a process that has imported vllm",
            "fresh": "a new process: import vllm, vllm.LLM(...) with the same arguments, one token",
            "load_average": [before, load_average()],
        },
    )


async def _first_token(runner: RayRunner, spec: EngineSpec, number: int) -> float:
    started_s = time.perf_counter()
    await runner.load(spec)
    (request,) = requests("smol", 1, 1, number)
    request = replace(request, sampling=replace(request.sampling, n=1))
    async for outcome in runner.generate([request], stream=False):
        assert isinstance(outcome, Completion), outcome
    return time.perf_counter() - started_s


async def _fresh(spec: EngineSpec) -> float:
    """A process with vLLM's own defaults for processes and threads."""
    started_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eval.bench.bare", spec.model_path or "", json.dumps(ENGINE_ARGS),
        "--once",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    seconds = None
    async for line in process.stdout:
        if line.startswith(b"{"):
            seconds = time.perf_counter() - started_s
    await process.wait()
    if seconds is None:
        raise RuntimeError(f"a fresh vllm.LLM ended with {process.returncode}")
    return seconds
