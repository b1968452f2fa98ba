"""Prompts on an engine with short blocks of KV space and on one with vLLM's own.

Short ones that begin alike, where short blocks spare work; and long ones that have nothing in
common, where they only cost.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from composer.backends.vllm_memory import BLOCK_TOKENS
from composer.experts import Expert, PoolSettings, Registry
from composer.pool.pool import Pool
from composer.types import Message, Request, Sampling
from eval.bench.models import ENGINE_ARGS, SMOL, token_rate
from eval.bench.result import BenchResult, load_average, median, note
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

ROUNDS = 3
EACH, TOKENS = 20, 12
"""Short questions of each skill in a round, and tokens of an answer."""
LONG, WORDS, LONG_TOKENS = 8, 500, 48
"""Long prompts in a round, words of each, and tokens of an answer."""
USUAL = 128
"""Tokens of a block on a CPU where vLLM 0.32 is told nothing."""
WAYS = {"short": BLOCK_TOKENS, "usual": USUAL}


def bench_blocks() -> BenchResult:
    """Rounds of 100 short questions behind the same words of a template, and of 8 long ones."""
    return asyncio.run(_measure())


async def _measure() -> BenchResult:
    before = load_average()
    taken = {what: {way: list[float]() for way in WAYS} for what in PROMPTS}
    async with Pool(_registry()) as pool:
        for number in range(-1, ROUNDS):
            for way in WAYS if number % 2 else reversed(WAYS):
                for what, make in PROMPTS.items():
                    rate = await token_rate(pool, make(way, number))
                    note(f"round {number}: {way} blocks, {what}: {rate:.0f} tokens/s")
                    if number >= 0:
                        taken[what][way].append(rate)
    figures: dict[str, float] = {}
    for what, rates in taken.items():
        figures |= {f"{what}_{way}_tok_s": median(values) for way, values in rates.items()}
        pairs = zip(rates["short"], rates["usual"], strict=True)
        figures[f"{what}_ratio"] = median([a / b for a, b in pairs])
    return BenchResult(
        "blocks",
        figures,
        {
            "model": "SmolLM2-135M-Instruct",
            "block_tokens": WAYS,
            "alike": {"requests": EACH * len(SKILLS), "tokens": TOKENS},
            "long": {"requests": LONG, "words": WORDS, "tokens": LONG_TOKENS},
            "rounds": ROUNDS,
            "tokens_counted": "of prompts and answers, those that were kept from before included",
            "load_average": [before, load_average()],
        },
    )


def _registry() -> Registry:
    experts = {
        way: Expert(name=way, source=SMOL, engine_args=ENGINE_ARGS | {"block_size": tokens})
        for way, tokens in WAYS.items()
    }
    settings = PoolSettings(memory_gib=12, busy_engines=1, warm_spares=0)
    return Registry(experts, {}, settings, Path("experts.yaml"))


def _alike(expert: str, round_number: int) -> list[Request]:
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


def _long(expert: str, round_number: int) -> list[Request]:
    """Prompts that differ from their first word on."""
    requests: list[Request] = []
    for number in range(LONG):
        draw = Random(f"{round_number}/{number}")
        text = " ".join(str(draw.randrange(100)) for _ in range(WORDS))
        requests.append(
            Request(
                f"{expert}/{round_number}/long/{number}",
                expert,
                (Message("user", text),),
                Sampling(temperature=0.0, max_tokens=LONG_TOKENS),
            )
        )
    return requests


PROMPTS = {"alike": _alike, "long": _long}
