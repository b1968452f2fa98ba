"""One question answered by several ways in turn, and what each took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from composer.types import Answer, Completion, Delta
from eval.bench.result import median, note

PAUSE_S = 0.05
"""Before each question: OpenMP's threads of the engine that was asked before spin for a while."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one answer took."""

    first_s: float
    """Until its first text; of an empty answer, until its end."""
    total_s: float
    tokens: int


Way = Callable[[int], Awaitable[Timed]]
"""Has the question of a number answered."""


async def take_turns(
    ways: Mapping[str, Way], *, n: int, n_warm_ups: int, pause_s: float = PAUSE_S
) -> dict[str, list[Timed]]:
    """Each question by each way, one at a time; whoever is first moves on with each question.

    Args:
        ways: By name.
        n: Questions that count; they come after the others.
        n_warm_ups: Questions that do not.
        pause_s: Before each.
    """
    names = list(ways)
    taken: dict[str, list[Timed]] = {name: [] for name in names}
    for number in range(n_warm_ups + n):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            await asyncio.sleep(pause_s)
            timed = await ways[name](number)
            if number >= n_warm_ups:
                taken[name].append(timed)
        if number >= n_warm_ups and (number - n_warm_ups) % 10 == 0:
            latest = ", ".join(f"{name} {1000 * taken[name][-1].first_s:.1f}" for name in names)
            note(f"question {number - n_warm_ups}: first text after {latest} ms")
    return taken


async def time_stream(
    events: AsyncIterator[object], expert: str, *, clock: Callable[[], float] = time.perf_counter
) -> Timed:
    """What a stream takes from now to its end.

    Raises:
        RuntimeError: It ends with something else than an answer of this expert.
    """
    started_s = clock()
    first_s, event = None, None
    async for event in events:
        if first_s is None and isinstance(event, Delta):
            first_s = clock() - started_s
    total_s = clock() - started_s
    if not isinstance(event, Answer | Completion) or event.expert != expert:
        raise RuntimeError(f"{expert} was to answer, and this came: {event}")
    return Timed(total_s if first_s is None else first_s, total_s, event.completion_tokens)


def latency_figures(taken: Mapping[str, Sequence[Timed]]) -> dict[str, float]:
    """Milliseconds of each way to its first text and in all: medians and 99th percentiles."""
    figures: dict[str, float] = {}
    for name, timed in taken.items():
        seconds = {"ttft": [t.first_s for t in timed], "total": [t.total_s for t in timed]}
        for what, values in seconds.items():
            p50, p99 = np.percentile(np.multiply(values, 1000), [50, 99])
            figures |= {f"{name}_{what}_ms_p50": float(p50), f"{name}_{what}_ms_p99": float(p99)}
    return figures


def added_ms(more: Sequence[Timed], less: Sequence[Timed]) -> float:
    """By how much the first text comes later, in milliseconds, in the median question."""
    return 1000 * median([a.first_s - b.first_s for a, b in zip(more, less, strict=True)])


def unequal_lengths(taken: Mapping[str, Sequence[Timed]]) -> int:
    """Questions whose answers have not as many tokens by one way as by another."""
    questions = zip(*taken.values(), strict=True)
    return sum(len({timed.tokens for timed in answers}) > 1 for answers in questions)
