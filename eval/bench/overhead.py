"""What the library adds to an engine's own time, and what two busy engines leave each other."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from composer.assembly import compose
from composer.experts import (
    AggregatorConfig,
    Composition,
    Expert,
    PoolSettings,
    Registry,
    RouterConfig,
)
from composer.pool.pool import Pool
from eval.bench.models import registry
from eval.bench.result import BenchResult, load_average, median, note
from eval.bench.throughput import run_pool

ASKS, ROUNDS, REQUESTS, TOKENS = 500, 3, 32, 64


def bench_overhead() -> BenchResult:
    """Milliseconds of `Composer.ask` on an instant engine; tokens/s of two engines at once."""
    return asyncio.run(_overhead())


async def _overhead() -> BenchResult:
    before = load_average()
    cores = os.cpu_count() or 1
    figures = {
        "inprocess_ms_p50": await _ask_ms("inline"),
        "runner_ms_p50": await _ask_ms("ray"),
    }
    alone, each = await _panel(cores)
    figures |= {"alone_tok_s": alone, "panel_tok_s_each": each, "panel_ratio": each / alone}
    return BenchResult(
        "overhead",
        figures,
        {
            "asks": ASKS,
            "engine": "scripted, instant, in this process and in one Ray actor",
            "panel": "two SmolLM2 engines, one thread each, against one engine with all threads",
            "requests": REQUESTS,
            "tokens": TOKENS,
            "rounds": ROUNDS,
            "cores": cores,
            "load_average": [before, load_average()],
        },
    )


async def _ask_ms(runner: str) -> float:
    expert = Expert.model_validate(
        {"name": "echo", "engine": "scripted", "runner": runner, "engine_args": {"text": "yes"}}
    )
    composition = Composition(
        router=RouterConfig.model_validate({"name": "fixed", "expert": "echo"}),
        aggregator=AggregatorConfig.model_validate({"name": "best"}),
    )
    settings = PoolSettings(memory_gib=4, warm_spares=0)
    registry = Registry({"echo": expert}, {"auto": composition}, settings, Path("experts.yaml"))
    taken: list[float] = []
    async with compose(registry) as composer:
        for number in range(ASKS + 50):
            started_s = time.perf_counter()
            answer = await composer.ask(f"question {number}")
            taken.append(time.perf_counter() - started_s)
            assert answer.text == "yes"
    note(f"{runner}: {1000 * median(taken[50:]):.2f} ms")
    return 1000 * median(taken[50:])


async def _panel(cores: int) -> tuple[float, float]:
    """Tokens/s of one engine alone, and of the slower of two at once; alternating rounds."""
    alone: list[float] = []
    each: list[float] = []
    names = ["first", "second"]
    async with (
        Pool(registry(names[:1], busy_engines=1, cores=cores)) as one,
        Pool(registry(names, busy_engines=2, cores=cores)) as two,
    ):
        for number in range(-1, ROUNDS):
            rate = await run_pool(one, "first", REQUESTS, TOKENS, round_number=number)
            async with asyncio.TaskGroup() as both:
                tasks = [
                    both.create_task(run_pool(two, name, REQUESTS, TOKENS, round_number=number))
                    for name in names
                ]
            slower = min(task.result() for task in tasks)
            note(f"round {number}: alone {rate:.0f}, two at once {slower:.0f} tokens/s each")
            if number >= 0:
                alone.append(rate)
                each.append(slower)
    return median(alone), median(each)
