"""The pool on scripted engines in this event loop: turns, residency, deadlines, retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from composer.errors import ConfigError
from composer.pool.pool import Pool
from composer.types import Completion, Delta, Failure, Outcome, Request, Restart, Sampling

if TYPE_CHECKING:
    from tests.composer.pool.conftest import Ask, MakeRegistry


async def outcomes(pool: Pool, requests: Iterable[Request]) -> dict[str, Outcome]:
    return {request_id: outcome async for request_id, outcome in pool.run(tuple(requests))}


async def one(pool: Pool, request: Request) -> Outcome:
    return (await outcomes(pool, [request]))[request.id]


async def test_a_request_is_answered_and_accounted_for(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted({"a": {"text": "yes it is"}}), cache=tmp_path) as pool:
        outcome = await one(pool, ask("a"))
    assert isinstance(outcome, Completion)
    assert outcome.text == "yes it is"
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.attempts) == (1, 3, 1)


async def test_a_stream_adds_up_to_the_completion(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted({"a": {"text": "one two three"}}), cache=tmp_path) as pool:
        events = [event async for event in pool.stream(ask("a"))]
    assert [e.text for e in events if isinstance(e, Delta)] == ["one", " two", " three"]
    assert isinstance(events[-1], Completion)
    assert events[-1].text == "one two three"


async def test_what_a_request_leaves_open_comes_from_the_expert_then_the_default(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({"a": {"text": "1 2 3 4 5"}})
    with_defaults = registry.experts["a"].model_copy(
        update={"sampling": type(registry.experts["a"].sampling)(max_tokens=3)}
    )
    registry = type(registry)({"a": with_defaults}, {}, registry.pool, registry.path)
    async with Pool(registry, cache=tmp_path) as pool:
        by_default = await one(pool, ask("a"))
        as_asked = await one(pool, ask("a", sampling=Sampling(max_tokens=2)))
    assert isinstance(by_default, Completion)
    assert isinstance(as_asked, Completion)
    assert (by_default.text, as_asked.text) == ("1 2 3", "1 2")


async def test_outcomes_come_as_they_are_there(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {"slow": {"text": "s", "first_token_s": 0.2}, "quick": {"text": "q"}}
    async with Pool(scripted(scripts, busy_engines=2), cache=tmp_path) as pool:
        order = [outcome.expert async for _, outcome in pool.run([ask("slow"), ask("quick")])]
    assert order == ["quick", "slow"]


async def test_no_more_engines_are_busy_than_the_cores_allow(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {"text": name, "first_token_s": 0.05} for name in "abc"}
    async with Pool(scripted(scripts, busy_engines=1), cache=tmp_path) as pool:
        got = await outcomes(pool, [ask("a"), ask("b"), ask("c"), ask("a")])
    completions = [o for o in got.values() if isinstance(o, Completion)]
    assert len(completions) == 4
    assert sorted(o.queued_s > 0.04 for o in completions if o.expert != "a") == [True, True]


async def test_the_least_recently_used_expert_makes_room(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {"text": name, "memory_gib": 3} for name in "abc"}
    async with Pool(scripted(scripts, memory_gib=7), cache=tmp_path) as pool:
        for expert in ("a", "b", "a", "c"):
            assert isinstance(await one(pool, ask(expert)), Completion)
        held = {expert for runner in pool.runners() for expert in runner.experts}
        assert sum(runner.bytes for runner in pool.runners()) <= 7 << 30
    assert held == {"a", "c"}


async def held_after(pool: Pool, ask: Ask, experts: str) -> set[str]:
    """Who is loaded once these were asked, one after the other."""
    for expert in experts:
        assert isinstance(await one(pool, ask(expert)), Completion)
    return {expert for runner in pool.runners() for expert in runner.experts}


async def test_while_the_future_is_known_who_is_wanted_last_makes_room(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {"text": name, "memory_gib": 3} for name in "abcd"}
    async with Pool(scripted(scripts, memory_gib=7), cache=tmp_path) as pool:
        pool.foresee(["a", "b", "c", "a"])
        assert await held_after(pool, ask, "abc") == {"a", "c"}
        pool.foresee(["d", "c"])
        assert await held_after(pool, ask, "d") == {"c", "d"}
        pool.foresee([])
        assert await held_after(pool, ask, "ca") == {"a", "c"}


async def test_who_makes_room_while_no_future_is_known_is_a_setting(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    scripts = {name: {"text": name, "memory_gib": 3} for name in "abc"}
    async with Pool(scripted(scripts, memory_gib=7, eviction="lfu"), cache=tmp_path) as pool:
        assert await held_after(pool, ask, "aabc") == {"a", "c"}


async def test_greedy_dual_keeps_who_takes_long_to_load_but_not_for_ever(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    seconds = {"a": 0.3, "b": 0.2, "c": 0.2}
    scripts = {k: {"text": k, "memory_gib": 3, "load_s": s} for k, s in seconds.items()}
    registry = scripted(scripts, memory_gib=7, eviction="greedy-dual")
    async with Pool(registry, cache=tmp_path) as pool:
        assert await held_after(pool, ask, "abc") == {"a", "c"}
        assert await held_after(pool, ask, "b") == {"b", "c"}


async def test_an_expert_that_there_is_not_cannot_be_foreseen(
    scripted: MakeRegistry, tmp_path: Path
) -> None:
    async with Pool(scripted({"a": {"text": ""}}), cache=tmp_path) as pool:
        with pytest.raises(ConfigError, match="no expert 'b'"):
            pool.foresee(["a", "b"])


async def test_an_expert_that_does_not_fit_is_refused_with_the_numbers(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted({"big": {"text": "", "memory_gib": 20}}), cache=tmp_path) as pool:
        outcome = await one(pool, ask("big"))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "unavailable"
    assert "20.00 GiB (estimated)" in outcome.message
    assert "8.00 GiB" in outcome.message
    assert "pool.memory_gib" in outcome.message


async def test_a_late_answer_is_a_timeout_and_the_next_request_is_served(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({"a": {"text": "late", "first_token_s": 60}})
    async with Pool(registry, cache=tmp_path) as pool:
        outcome = await one(pool, ask("a", deadline_s=0.05))
        assert isinstance(outcome, Failure)
        assert outcome.kind == "timeout"
        assert "no answer within" in outcome.message
        again = await one(pool, ask("a", deadline_s=0.05))
    assert isinstance(again, Failure)


async def test_an_engine_that_never_answers_is_replaced(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    script = {"text": "fine", "failures": {"stuck": "hang"}}
    async with Pool(scripted({"a": script}, grace_s=0.1), cache=tmp_path) as pool:
        stuck = await one(pool, ask("a", "stuck", deadline_s=0.05))
        assert isinstance(stuck, Failure)
        assert stuck.kind == "timeout"
        fine = await one(pool, ask("a", "hello", deadline_s=5))
    assert isinstance(fine, Completion)


async def test_an_answer_cut_half_way_is_restarted_then_given_up(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    script = {"text": "one two three four", "failures": {"hello": "cut"}}
    async with Pool(scripted({"a": script}, max_attempts=2), cache=tmp_path) as pool:
        events = [event async for event in pool.stream(ask("a"))]
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Delta", "Delta", "Restart", "Delta", "Delta", "Failure"]
    failure = events[-1]
    assert isinstance(failure, Failure)
    assert failure.attempts == 2
    assert isinstance(events[2], Restart)


async def test_a_load_that_fails_is_tried_again_then_reported(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    script = {"text": "", "load_failure": "the disk is on fire"}
    async with Pool(scripted({"a": script}), cache=tmp_path) as pool:
        outcome = await one(pool, ask("a"))
    assert isinstance(outcome, Failure)
    assert "the disk is on fire" in outcome.message
    assert outcome.attempts == 2


async def test_a_load_that_never_ends_is_given_up(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({"a": {"text": "", "load_s": 60}}, load_deadline_s=0.05)
    async with Pool(registry, cache=tmp_path) as pool:
        outcome = await one(pool, ask("a"))
    assert isinstance(outcome, Failure)
    assert "did not load within" in outcome.message


async def test_a_wrong_engine_argument_is_one_clear_failure(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    async with Pool(scripted({"a": {"txt": "hello"}}), cache=tmp_path) as pool:
        outcome = await one(pool, ask("a"))
    assert isinstance(outcome, Failure)
    assert "no argument 'txt'" in outcome.message
    assert not outcome.retryable


async def test_closing_a_stream_stops_the_request(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({"a": {"text": "word " * 1000, "token_s": 0.01}}, busy_engines=1)
    async with Pool(registry, cache=tmp_path) as pool:
        stream = pool.stream(ask("a"))
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()
        async with asyncio.timeout(5):
            short = await one(pool, ask("a", sampling=Sampling(max_tokens=1)))
    assert isinstance(short, Completion)


async def test_closing_the_pool_ends_what_still_runs(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    pool = Pool(scripted({"a": {"text": "x", "first_token_s": 60}}), cache=tmp_path)
    asking = asyncio.create_task(one(pool, ask("a")))
    await asyncio.sleep(0.05)
    await pool.close()
    outcome = await asking
    assert isinstance(outcome, Failure)
    assert outcome.kind == "cancelled"
    after = await one(pool, ask("a"))
    assert isinstance(after, Failure)


async def test_an_expert_pinned_in_memory_is_never_evicted(
    scripted: MakeRegistry, ask: Ask, tmp_path: Path
) -> None:
    registry = scripted({n: {"text": n, "memory_gib": 3} for n in "abc"}, memory_gib=7)
    pinned = registry.experts["a"].model_copy(update={"pinned": True})
    registry = type(registry)({**registry.experts, "a": pinned}, {}, registry.pool, registry.path)
    async with Pool(registry, cache=tmp_path) as pool:
        for expert in ("a", "b", "c", "b"):
            assert isinstance(await one(pool, ask(expert)), Completion)
        held = {expert for runner in pool.runners() for expert in runner.experts}
    assert "a" in held
