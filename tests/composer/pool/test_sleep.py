"""Experts that share a GPU: who sleeps, how deep, and who is awake again without a load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.backends import GIB
from composer.experts import Registry
from composer.pool.held import Held
from composer.pool.inline_runner import InlineRunner
from composer.pool.pool import Pool, RunnerInfo
from composer.types import DEFAULT_SAMPLING, Completion, Failure, Outcome

if TYPE_CHECKING:
    from tests.composer.pool.conftest import Ask, MakeRegistry

SLEEPER: Mapping[str, Any] = {"text": "{expert}", "memory_gib": 1, "asleep_gib": 1}
NO_SLEEPER: Mapping[str, Any] = {"text": "{expert}", "memory_gib": 1}


@pytest.fixture
async def pool(scripted: MakeRegistry, tmp_path: Path) -> AsyncIterator[Pool]:
    """Two of four fit on the GPU; the machine has memory for two that sleep."""
    registry = scripted({name: dict(SLEEPER) for name in "abcd"}, gpu_memory_gib=2, memory_gib=2)
    async with Pool(registry, cache=tmp_path) as running:
        yield running


async def outcome_of(pool: Pool, ask: Ask, expert: str) -> Outcome:
    (outcome,) = [outcome async for _, outcome in pool.run([ask(expert)])]
    return outcome


async def answered(pool: Pool, ask: Ask, experts: str) -> list[Completion]:
    """What experts say that are asked one after the other."""
    outcomes = [await outcome_of(pool, ask, expert) for expert in experts]
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    assert [completion.text for completion in completions] == list(experts)
    return completions


def awake(pool: Pool) -> str:
    return "".join(sorted(e for runner in pool.runners() if runner.is_up for e in runner.experts))


def runner_of(pool: Pool, expert: str) -> RunnerInfo:
    (runner,) = [runner for runner in pool.runners() if runner.experts == (expert,)]
    return runner


def pin(registry: Registry, *names: str) -> Registry:
    pinned = {n: registry.experts[n].model_copy(update={"pinned": True}) for n in names}
    return Registry({**registry.experts, **pinned}, {}, registry.pool, registry.path)


async def test_the_least_recently_used_expert_goes_to_sleep(pool: Pool, ask: Ask) -> None:
    await answered(pool, ask, "abac")
    assert awake(pool) == "ac"
    assert runner_of(pool, "b").bytes == GIB


async def test_an_expert_that_sleeps_wakes_where_it_was_and_another_sleeps(
    pool: Pool, ask: Ask
) -> None:
    await answered(pool, ask, "abc")
    assert awake(pool) == "bc"
    (again,) = await answered(pool, ask, "a")
    assert again.text == "a"
    assert awake(pool) == "ac"
    assert len(pool.runners()) == 3
    assert (runner_of(pool, "a").how, runner_of(pool, "c").how) == ("reused", "fresh")


async def test_an_expert_that_is_awake_takes_nothing_of_the_machines_own_memory(
    pool: Pool, ask: Ask
) -> None:
    await answered(pool, ask, "abca")
    assert [runner_of(pool, name).bytes for name in "abc"] == [0, GIB, 0]


async def test_where_the_machine_has_no_memory_left_an_expert_sleeps_without_its_weights(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "abc"}
    registry = scripted(scripts, gpu_memory_gib=1, memory_gib=0.5)
    async with Pool(registry, cache=tmp_path) as pool:
        await answered(pool, ask, "ab")
        assert (awake(pool), runner_of(pool, "a").bytes) == ("b", 0)
        await answered(pool, ask, "a")
        assert runner_of(pool, "a").how == "reused"


async def test_weights_of_the_one_used_last_are_kept_and_the_one_that_slept_is_ended_for_them(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "abc"}
    registry = scripted(scripts, gpu_memory_gib=1, memory_gib=1)
    async with Pool(registry, cache=tmp_path) as pool:
        await answered(pool, ask, "abc")
        assert {runner.experts for runner in pool.runners()} == {("b",), ("c",)}
        assert runner_of(pool, "b").bytes == GIB


async def test_an_expert_that_cannot_sleep_is_ended(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {"a": dict(NO_SLEEPER), "b": dict(SLEEPER), "c": dict(SLEEPER)}
    async with Pool(scripted(scripts, gpu_memory_gib=2), cache=tmp_path) as pool:
        await answered(pool, ask, "abc")
        assert {runner.experts for runner in pool.runners()} == {("b",), ("c",)}
        await answered(pool, ask, "a")
        assert runner_of(pool, "a").how == "fresh"


async def test_an_expert_that_is_pinned_stays_awake(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "abc"}
    registry = pin(scripted(scripts, gpu_memory_gib=2), "a")
    async with Pool(registry, cache=tmp_path) as pool:
        await answered(pool, ask, "abcb")
        assert awake(pool) == "ab"


async def test_an_expert_that_sleeps_is_refused_once_the_pinned_ones_leave_it_no_room(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "abc"}
    registry = pin(scripted(scripts, gpu_memory_gib=2), "b", "c")
    async with Pool(registry, cache=tmp_path) as pool:
        await answered(pool, ask, "abc")
        async with asyncio.timeout(30):
            refused = await outcome_of(pool, ask, "a")
    assert isinstance(refused, Failure)
    assert "1.00 GiB of the GPU and 0.00 GiB may be used" in refused.message
    assert "raise pool.gpu_memory_gib" in refused.message


async def test_an_expert_larger_than_the_gpu_is_refused_with_the_setting_to_raise(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({"big": {"text": "", "memory_gib": 3}}, gpu_memory_gib=2)
    async with Pool(registry, cache=tmp_path) as pool:
        refused = await outcome_of(pool, ask, "big")
    assert isinstance(refused, Failure)
    assert "3.00 GiB of the GPU and 2.00 GiB may be used" in refused.message
    assert "raise pool.gpu_memory_gib" in refused.message


async def test_to_wake_takes_no_load_and_from_deep_sleep_it_takes_one(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {"a": {**SLEEPER, "load_s": 1.0}, "b": dict(SLEEPER)}
    loading_s: list[float] = []
    for memory_gib in (2, 0.5):
        registry = scripted(scripts, gpu_memory_gib=1, memory_gib=memory_gib)
        async with Pool(registry, cache=tmp_path) as pool:
            *_, woken = await answered(pool, ask, "aba")
            loading_s.append(woken.loading_s)
    assert loading_s[0] < 1.0 <= loading_s[1]


async def test_experts_asked_at_once_are_all_answered_though_they_take_turns_on_the_gpu(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {**SLEEPER, "sleep_s": 0.01, "wake_s": 0.01} for name in "abcd"}
    registry = scripted(scripts, gpu_memory_gib=2, memory_gib=2, busy_engines=2)
    async with Pool(registry, cache=tmp_path) as pool:
        for _ in range(3):
            requests = [ask(expert) for expert in "abcdab"]
            outcomes = [outcome async for _, outcome in pool.run(requests)]
            assert sorted(o.text for o in outcomes if isinstance(o, Completion)) == [*"aabbcd"]


def test_an_engine_holds_its_part_of_the_gpu_until_it_sleeps(scripted: MakeRegistry) -> None:
    spec = scripted({"a": dict(SLEEPER)}).engine_spec("a")
    held = Held(1, InlineRunner("scripted"), "scripted", True, 0, spec, gpu_bytes=GIB, level=1)
    assert (held.on_gpu(0.0).level, held.on_gpu(0.0).is_busy) == (0, True)
    held.is_moving = False
    assert (held.on_gpu(0.0).level, held.on_gpu(0.0).is_busy) == (1, False)


async def test_a_runner_whose_engine_sleeps_can_be_emptied_and_take_another(
    scripted: MakeRegistry, ask: Ask
) -> None:
    registry = scripted({"a": dict(SLEEPER), "b": dict(SLEEPER)})
    runner = InlineRunner("scripted", on_gpu=True)
    await runner.load(registry.engine_spec("a"))
    assert await runner.sleep(1) == GIB
    assert await runner.unload() == 0
    await runner.load(registry.engine_spec("b"))
    request = replace(ask("b"), sampling=DEFAULT_SAMPLING)
    (said,) = [event async for event in runner.generate([request], stream=False)]
    assert isinstance(said, Completion)
    assert said.text == "b"


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
async def test_a_process_sleeps_and_wakes_as_the_same_and_how_long_that_takes_is_kept(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {**SLEEPER, "load_s": 0.5} for name in "ab"}
    registry = scripted(scripts, runner="ray", gpu_memory_gib=1)
    async with Pool(registry, cache=tmp_path) as pool:
        await answered(pool, ask, "ab")
        before = runner_of(pool, "a").pid
        assert awake(pool) == "b"
        assert pool.load_seconds("a") >= 0.5
        await answered(pool, ask, "ab")
        assert runner_of(pool, "a").pid == before
        assert (awake(pool), pool.load_seconds("b")) == ("b", 0.0)
        assert 0 < pool.load_seconds("a") < 0.5


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
async def test_an_engine_that_does_not_go_to_sleep_is_ended_and_loaded_anew(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "ab"}
    async with Pool(scripted(scripts, runner="ray", gpu_memory_gib=1), cache=tmp_path) as pool:
        await answered(pool, ask, "a")
        before = runner_of(pool, "a").pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await answered(pool, ask, "b")
        assert {runner.experts for runner in pool.runners()} == {("b",)}
        await answered(pool, ask, "a")
        assert runner_of(pool, "a").pid != before


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
async def test_an_engine_that_does_not_wake_is_ended_and_loaded_anew(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: dict(SLEEPER) for name in "ab"}
    async with Pool(scripted(scripts, runner="ray", gpu_memory_gib=1), cache=tmp_path) as pool:
        await answered(pool, ask, "ab")
        before = runner_of(pool, "a").pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        (again,) = await answered(pool, ask, "a")
        assert again.runner == "fresh"
        assert runner_of(pool, "a").pid != before
