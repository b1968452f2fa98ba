"""Loads beside engines that generate, and processes that are used again or not."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.errors import ConfigError
from composer.pool.pool import Pool
from composer.types import Completion, Delta, Outcome

if TYPE_CHECKING:
    from tests.composer.pool.conftest import Ask, MakeRegistry

PATIENCE_S = 30.0
LONG = {"text": "word " * 10_000, "token_s": 0.01}


def scripts(memory_gib: float = 0.0, **others: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One expert that writes for a long time, and others that answer at once."""
    quick = {name: {"text": name} for name in "bc"}
    return {
        name: {"memory_gib": memory_gib, **script}
        for name, script in {"long": LONG, **quick, **others}.items()
    }


def held(pool: Pool) -> set[str]:
    return {expert for runner in pool.runners() for expert in runner.experts}


async def loads(pool: Pool, n: int) -> None:
    """Wait until so many engines have been loaded."""
    for _ in range(3000):
        if pool.n_loads >= n:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{pool.n_loads} engines were loaded, not {n}")


async def settled() -> None:
    """Let everything happen that can happen at once."""
    for _ in range(50):
        await asyncio.sleep(0)


async def outcome_of(pool: Pool, ask: Ask, expert: str) -> Outcome:
    (outcome,) = [outcome async for _, outcome in pool.run([ask(expert)])]
    return outcome


async def test_the_engine_that_waits_is_loaded_while_another_generates(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted(scripts(), load_ahead=True), cache=tmp_path) as pool:
        async with aclosing(pool.stream(ask("long"))) as stream:
            assert isinstance(await anext(stream), Delta)
            next_one = asyncio.create_task(outcome_of(pool, ask, "b"))
            await loads(pool, 2)
            assert held(pool) == {"long", "b"}
            assert isinstance(await anext(stream), Delta)
            assert not next_one.done()
        async with asyncio.timeout(PATIENCE_S):
            assert isinstance(await next_one, Completion)
        assert pool.n_loads == 2


async def test_one_engine_after_the_other_is_loaded_ahead(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with (
        Pool(scripted(scripts(), load_ahead=True), cache=tmp_path) as pool,
        aclosing(pool.stream(ask("long"))) as stream,
    ):
        assert isinstance(await anext(stream), Delta)
        asking = asyncio.create_task(outcome_of(pool, ask, "b"))
        asking_too = asyncio.create_task(outcome_of(pool, ask, "c"))
        await loads(pool, 3)
        assert held(pool) == {"long", "b", "c"}
        await stream.aclose()
        assert isinstance(await asking, Completion)
        assert isinstance(await asking_too, Completion)


async def test_without_it_the_engine_that_waits_is_loaded_when_the_other_is_done(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted(scripts()), cache=tmp_path) as pool:
        async with aclosing(pool.stream(ask("long"))) as stream:
            assert isinstance(await anext(stream), Delta)
            next_one = asyncio.create_task(outcome_of(pool, ask, "b"))
            pool.load_ahead("b")
            for _ in range(10):
                assert isinstance(await anext(stream), Delta)
            assert held(pool) == {"long"}
        async with asyncio.timeout(PATIENCE_S):
            assert isinstance(await next_one, Completion)


async def test_an_engine_that_will_be_asked_is_loaded_beside_one_that_generates(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with (
        Pool(scripted(scripts(), load_ahead=True), cache=tmp_path) as pool,
        aclosing(pool.stream(ask("long"))) as stream,
    ):
        assert isinstance(await anext(stream), Delta)
        pool.load_ahead("b")
        await loads(pool, 2)
        assert held(pool) == {"long", "b"}
        pool.load_ahead("b")
        await settled()
        assert pool.n_loads == 2


async def test_to_load_ahead_unloads_no_engine_that_generates(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted(scripts(memory_gib=3), load_ahead=True, memory_gib=5)
    async with (
        Pool(registry, cache=tmp_path) as pool,
        aclosing(pool.stream(ask("long"))) as stream,
    ):
        assert isinstance(await anext(stream), Delta)
        pool.load_ahead("b")
        for _ in range(10):
            assert isinstance(await anext(stream), Delta)
        assert held(pool) == {"long"}
        await stream.aclose()
        await loads(pool, 2)
        assert held(pool) == {"b"}


async def test_an_engine_that_nobody_will_ask_after_all_is_not_loaded_ahead(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    small = {"text": "yes", "memory_gib": 1}
    registry = scripted(scripts(memory_gib=3, small=small), load_ahead=True, memory_gib=5)
    async with Pool(registry, cache=tmp_path) as pool:
        async with aclosing(pool.stream(ask("long"))) as stream:
            assert isinstance(await anext(stream), Delta)
            pool.load_ahead("b")
            for _ in range(10):
                assert isinstance(await anext(stream), Delta)
            pool.foresee(())
        assert isinstance(await outcome_of(pool, ask, "small"), Completion)
        assert held(pool) == {"long", "small"}


async def test_to_load_ahead_unloads_one_that_is_idle(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted(scripts(memory_gib=2), load_ahead=True, memory_gib=5)
    async with Pool(registry, cache=tmp_path) as pool:
        await outcome_of(pool, ask, "b")
        async with aclosing(pool.stream(ask("long"))) as stream:
            assert isinstance(await anext(stream), Delta)
            pool.load_ahead("c")
            await loads(pool, 3)
            assert held(pool) == {"long", "c"}


async def test_nothing_is_loaded_for_later_where_that_is_not_allowed(
    scripted: MakeRegistry, tmp_path: Path
) -> None:
    async with Pool(scripted(scripts()), cache=tmp_path) as pool:
        pool.load_ahead("b")
        await settled()
        assert pool.runners() == []


async def test_an_expert_that_there_is_not_cannot_be_loaded_ahead(
    scripted: MakeRegistry, tmp_path: Path
) -> None:
    async with Pool(scripted({"a": {"text": ""}}, load_ahead=True), cache=tmp_path) as pool:
        with pytest.raises(ConfigError, match="no expert 'b'"):
            pool.load_ahead("b")


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("keep_processes", [True, False])
async def test_a_process_is_used_again_unless_each_load_is_to_have_a_new_one(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path, keep_processes: bool
) -> None:
    memory: dict[str, dict[str, Any]] = {n: {"text": n, "memory_gib": 2.5} for n in "ab"}
    registry = scripted(memory, runner="ray", memory_gib=3.5, keep_processes=keep_processes)
    async with Pool(registry, cache=tmp_path) as pool:
        first = await outcome_of(pool, ask, "a")
        (before,) = [runner.pid for runner in pool.runners()]
        second = await outcome_of(pool, ask, "b")
        (after,) = [runner.pid for runner in pool.runners()]
    assert isinstance(first, Completion)
    assert isinstance(second, Completion)
    assert (first.runner, second.runner) == ("fresh", "reused" if keep_processes else "fresh")
    assert (before == after) is keep_processes
