"""The pool on real Ray actors: processes that are killed, hang, crash, are emptied and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from composer.pool.pool import Pool
from composer.types import Completion, Delta, Failure, Outcome, Request, Restart, Sampling

if TYPE_CHECKING:
    from tests.composer.pool.conftest import Ask, MakeRegistry

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SLOW = {"text": " ".join(f"word{n}" for n in range(40)), "token_s": 0.02}


async def one(pool: Pool, request: Request) -> Outcome:
    (outcome,) = [outcome async for _, outcome in pool.run([request])]
    return outcome


def pids(pool: Pool) -> set[int]:
    return {runner.pid for runner in pool.runners() if runner.pid is not None}


async def gone(processes: set[int]) -> bool:
    for _ in range(250):
        if not any(psutil.pid_exists(pid) for pid in processes):
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.fixture
async def pool(scripted: MakeRegistry, tmp_path: Path) -> AsyncIterator[Pool]:
    """Three scripted experts, each in a process of its own; room for two and a bit."""
    registry = scripted(
        {
            "slow": SLOW,
            "quick": {"text": "quick"},
            "fragile": {"text": "ok", "failures": {"die": "crash", "stuck": "hang"}},
        },
        runner="ray",
        busy_engines=2,
        grace_s=0.5,
    )
    async with Pool(registry, cache=tmp_path) as running:
        yield running


async def test_a_runner_killed_in_the_middle_of_a_stream_is_replaced_and_the_answer_completed(
    pool: Pool, ask: Ask
) -> None:
    events: list[object] = []
    killed: set[int] = set()
    async for event in pool.stream(ask("slow")):
        events.append(event)
        if not killed and sum(isinstance(e, Delta) for e in events) == 5:
            killed = pids(pool)
            os.kill(next(iter(killed)), signal.SIGKILL)
    restarts = [n for n, event in enumerate(events) if isinstance(event, Restart)]
    assert len(restarts) == 1
    last = events[-1]
    assert isinstance(last, Completion)
    said = "".join(e.text for e in events[restarts[0] :] if isinstance(e, Delta))
    assert said == last.text == SLOW["text"]
    assert last.attempts == 2
    assert pids(pool).isdisjoint(killed)


async def test_a_runner_that_died_while_nothing_ran_is_replaced(pool: Pool, ask: Ask) -> None:
    await one(pool, ask("quick"))
    (before,) = pids(pool)
    os.kill(before, signal.SIGKILL)
    assert await gone({before})
    outcome = await one(pool, ask("quick"))
    assert isinstance(outcome, Completion)
    assert before not in pids(pool)


async def test_an_engine_that_never_answers_loses_its_process(pool: Pool, ask: Ask) -> None:
    assert isinstance(await one(pool, ask("fragile")), Completion)
    before = pids(pool)
    stuck = await one(pool, ask("fragile", "stuck", deadline_s=0.3))
    assert isinstance(stuck, Failure)
    assert stuck.kind == "timeout"
    assert isinstance(await one(pool, ask("fragile")), Completion)
    assert await gone(before)


async def test_a_request_that_kills_every_runner_ends_as_a_failure_with_its_attempts(
    pool: Pool, ask: Ask
) -> None:
    outcome = await one(pool, ask("fragile", "die"))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "unavailable"
    assert outcome.attempts == 2
    assert "process died" in outcome.message
    assert isinstance(await one(pool, ask("fragile")), Completion)


async def test_two_experts_run_at_once_in_two_processes(pool: Pool, ask: Ask) -> None:
    for expert in ("slow", "quick"):
        await one(pool, ask(expert, sampling=Sampling(max_tokens=1)))
    got = [outcome async for _, outcome in pool.run([ask("slow"), ask("quick")])]
    assert [o.expert for o in got if isinstance(o, Completion)] == ["quick", "slow"]
    assert len(pids(pool)) == 2


async def test_a_stream_of_many_requests_keeps_each_text_apart(pool: Pool, ask: Ask) -> None:
    requests = [ask("slow", sampling=Sampling(max_tokens=n)) for n in range(1, 9)]

    async def said(request: Request) -> tuple[str, str]:
        events = [event async for event in pool.stream(request)]
        last = events[-1]
        assert isinstance(last, Completion)
        return "".join(e.text for e in events if isinstance(e, Delta)), last.text

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(said(request)) for request in requests]
    for number, task in enumerate(tasks, start=1):
        streamed, text = task.result()
        assert streamed == text
        assert len(text.split()) == number


async def test_an_emptied_runner_is_used_again_when_memory_is_short(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {"text": name, "memory_gib": 2.5} for name in "ab"}
    registry = scripted(scripts, runner="ray", memory_gib=3.5)
    async with Pool(registry, cache=tmp_path) as pool:
        first = await one(pool, ask("a"))
        before = pids(pool)
        second = await one(pool, ask("b"))
        assert pids(pool) == before
    assert isinstance(first, Completion)
    assert isinstance(second, Completion)
    assert (first.runner, second.runner) == ("fresh", "reused")


async def test_closing_the_pool_leaves_no_process_behind(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    pool = Pool(scripted({"slow": SLOW, "b": {"text": "b"}}, runner="ray"), cache=tmp_path)
    await one(pool, ask("b"))
    stream = pool.stream(ask("slow"))
    await anext(stream)
    processes = pids(pool)
    assert len(processes) == 2
    await pool.close()
    assert await gone(processes)
    await stream.aclose()
