"""Tokens a second through the pool, beside bare `vllm.LLM.generate` with the same threads."""

from __future__ import annotations

import asyncio
import os
import time

from composer.backends.sources import resolve_model
from composer.pool.pool import Pool
from composer.tokenizer import ChatTokenizer
from composer.types import Completion
from eval.bench.models import ENGINE_ARGS, SMOL, BareEngine, registry, requests
from eval.bench.result import BenchResult, load_average, median, note

ROUNDS, REQUESTS, TOKENS = 5, 32, 64


def bench_throughput() -> BenchResult:
    """Five alternating rounds of 32 requests x 64 tokens; medians."""
    cores = os.cpu_count() or 1
    model = resolve_model(SMOL)
    with BareEngine(model, threads=cores) as bare:
        return asyncio.run(_throughput(bare, ChatTokenizer.load(model), cores))


async def _throughput(bare: BareEngine, tokenizer: ChatTokenizer, cores: int) -> BenchResult:
    before = load_average()
    taken: dict[str, list[float]] = {"pool": [], "bare": []}
    async with Pool(registry(["smol"], busy_engines=1, cores=cores)) as pool:
        for number in range(-1, ROUNDS):
            asked = requests("smol", REQUESTS, TOKENS, number)
            pool_rate = await run_pool(pool, "smol", REQUESTS, TOKENS, round_number=number)
            prompts = [tokenizer.encode(request.messages) for request in asked]
            tokens, seconds = await asyncio.to_thread(bare.generate, prompts, TOKENS)
            note(f"round {number}: pool {pool_rate:.0f}, bare {tokens / seconds:.0f} tokens/s")
            if number >= 0:
                taken["pool"].append(pool_rate)
                taken["bare"].append(tokens / seconds)
    pool_tok_s, bare_tok_s = median(taken["pool"]), median(taken["bare"])
    ratio = median([p / b for p, b in zip(taken["pool"], taken["bare"], strict=True)])
    return BenchResult(
        "throughput",
        {"pool_tok_s": pool_tok_s, "bare_tok_s": bare_tok_s, "ratio": ratio},
        {
            "model": "SmolLM2-135M-Instruct",
            "requests": REQUESTS,
            "tokens": TOKENS,
            "rounds": ROUNDS,
            "threads": cores,
            "engine_args": ENGINE_ARGS,
            "load_average": [before, load_average()],
        },
    )


async def run_pool(pool: Pool, expert: str, n: int, tokens: int, *, round_number: int) -> float:
    """Tokens a second of n requests that are submitted together."""
    started_s = time.perf_counter()
    total = 0
    async for _, outcome in pool.run(requests(expert, n, tokens, round_number)):
        assert isinstance(outcome, Completion), outcome
        total += outcome.completion_tokens
    return total / (time.perf_counter() - started_s)
