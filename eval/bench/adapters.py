"""Many adapters in one batch: the pool, beside vLLM's own way on a CPU, and the base model."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from composer.backends.vllm_memory import vllm_engine_args
from composer.experts import Expert, PoolSettings, Registry
from composer.pool.pool import Pool
from composer.tokenizer import ChatTokenizer
from composer.types import Message, Request, Sampling
from eval.bench.models import ENGINE_ARGS, SMOL, BareEngine, token_rate
from eval.bench.result import BenchResult, load_average, median, note
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

ROUNDS, EACH, TOKENS = 3, 10, 24
BASE = "smol"


def bench_adapters() -> BenchResult:
    """Rounds of 50 requests, ten to each specialist: pool, base model, vLLM's wrapper; medians."""
    return asyncio.run(_measure())


async def _measure() -> BenchResult:
    before = load_average()
    taken: dict[str, list[float]] = {"adapters": [], "base": [], "vllm": []}
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(Pool(_registry()))
        spec = await pool.resolve(next(iter(SKILLS)))
        model = Path(spec.model_path or "")
        own = BareEngine(
            model, threads=os.cpu_count() or 1, engine_args=vllm_engine_args(spec, "cpu")
        )
        bare = await asyncio.to_thread(stack.enter_context, own)
        tokenizer = ChatTokenizer.load(model, spec.chat_template)
        for number in range(-1, ROUNDS):
            asked = _requests(number)
            prompts = [tokenizer.encode(request.messages) for request in asked]
            folders = [spec.adapters[request.expert] for request in asked]
            rates = {
                "adapters": await token_rate(pool, asked),
                "base": await token_rate(pool, [_of_base(request) for request in asked]),
            }
            tokens, seconds = await asyncio.to_thread(bare.generate, prompts, TOKENS, folders)
            rates["vllm"] = (sum(map(len, prompts)) + tokens) / seconds
            note(f"round {number}: " + ", ".join(f"{k} {v:.0f} tokens/s" for k, v in rates.items()))
            if number >= 0:
                for way, rate in rates.items():
                    taken[way].append(rate)
    ratios = {
        f"adapters_to_{other}": median(
            [a / b for a, b in zip(taken["adapters"], taken[other], strict=True)]
        )
        for other in ("base", "vllm")
    }
    return BenchResult(
        "adapters",
        {f"{way}_tok_s": median(rates) for way, rates in taken.items()} | ratios,
        {
            "model": "SmolLM2-135M-Instruct",
            "adapters": list(SKILLS),
            "requests": EACH * len(SKILLS),
            "tokens": TOKENS,
            "rounds": ROUNDS,
            "load_average": [before, load_average()],
        },
    )


def _registry() -> Registry:
    experts = {BASE: Expert(name=BASE, source=SMOL, engine_args=ENGINE_ARGS)} | {
        skill: Expert(name=skill, base=BASE, adapter=f"package:composer/starter/{skill}")
        for skill in SKILLS
    }
    settings = PoolSettings(memory_gib=12, busy_engines=1, warm_spares=0)
    return Registry(experts, {}, settings, Path("experts.yaml"))


def _requests(round_number: int) -> list[Request]:
    """Other questions in every round; a question of a skill goes to its specialist, in turn."""
    items = {s: make_items(skill, "test", EACH, round_number + 1) for s, skill in SKILLS.items()}
    return [
        Request(
            f"{round_number}/{skill}/{number}",
            skill,
            (Message("user", items[skill][number].prompt),),
            Sampling(temperature=0.0, max_tokens=TOKENS),
        )
        for number in range(EACH)
        for skill in SKILLS
    ]


def _of_base(request: Request) -> Request:
    return Request(f"{BASE}/{request.id}", BASE, request.messages, request.sampling)
