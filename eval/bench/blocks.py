"""Short prompts that begin alike, on an engine with short blocks and on one with vLLM's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from composer.backends.vllm_memory import BLOCK_TOKENS
from composer.experts import Expert, PoolSettings, Registry
from composer.pool.pool import Pool
from composer.types import Message, Request, Sampling
from eval.bench.models import ENGINE_ARGS, SMOL, token_rate
from eval.bench.result import BenchResult, load_average, median, note
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

ROUNDS, EACH, TOKENS = 3, 20, 12
USUAL = 128
"""Tokens of a block on a CPU where vLLM 0.32 is told nothing."""


def bench_blocks() -> BenchResult:
    """Rounds of 100 questions that one chat template puts the same words before; medians."""
    return asyncio.run(_measure())


async def _measure() -> BenchResult:
    before = load_average()
    taken: dict[str, list[float]] = {"short": [], "usual": []}
    async with Pool(_registry()) as pool:
        for number in range(-1, ROUNDS):
            for way in taken if number % 2 else reversed(taken):
                rate = await token_rate(pool, _requests(way, number))
                note(f"round {number}: {way} blocks: {rate:.0f} tokens/s")
                if number >= 0:
                    taken[way].append(rate)
    ratio = median([a / b for a, b in zip(taken["short"], taken["usual"], strict=True)])
    return BenchResult(
        "blocks",
        {f"{way}_tok_s": median(rates) for way, rates in taken.items()} | {"ratio": ratio},
        {
            "model": "SmolLM2-135M-Instruct",
            "block_tokens": {"short": BLOCK_TOKENS, "usual": USUAL},
            "requests": EACH * len(SKILLS),
            "tokens": TOKENS,
            "rounds": ROUNDS,
            "tokens_counted": "of prompts and answers, those that were kept from before included",
            "load_average": [before, load_average()],
        },
    )


def _registry() -> Registry:
    experts = {
        way: Expert(name=way, source=SMOL, engine_args=ENGINE_ARGS | {"block_size": tokens})
        for way, tokens in (("short", BLOCK_TOKENS), ("usual", USUAL))
    }
    settings = PoolSettings(memory_gib=12, busy_engines=1, warm_spares=0)
    return Registry(experts, {}, settings, Path("experts.yaml"))


def _requests(expert: str, round_number: int) -> list[Request]:
    """Other questions in every round, the same for both engines."""
    items = [i for s in SKILLS.values() for i in make_items(s, "test", EACH, round_number + 1)]
    return [
        Request(
            f"{expert}/{round_number}/{number}",
            expert,
            (Message("user", item.prompt),),
            Sampling(temperature=0.0, max_tokens=TOKENS),
        )
        for number, item in enumerate(items)
    ]
