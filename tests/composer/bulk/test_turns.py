"""Slots of a batch: copies of engines, who hands over to whom, and rates that are kept."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from composer.bulk import BatchReport, run_batch
from composer.bulk.stages import StagePlanner
from composer.bulk.turns import Turns
from composer.bulk.waiting import Load, Waiting
from composer.experts import load_experts
from composer.pool.footprint import Footprint, Footprints
from composer.pool.pool import Pool
from tests.composer.bulk.conftest import EXPERTS, ONE, PANEL, Bulk, registry

PATIENCE_S = 60.0
SLOW = {"first_token_s": 0.02}


def measured(folder: Path, text: str, **rates: float) -> None:
    """Have a pool know of experts how fast they load and write."""
    path = folder / "experts.yaml"
    path.write_text(text, "utf-8")
    specs, footprints = load_experts(path), Footprints(folder / "footprints.json")
    for name, tokens_per_s in rates.items():
        key = specs.engine_spec(name).key
        footprints.record(key, Footprint(1 << 30, 0.01, tokens_per_s=tokens_per_s))


def assert_slots_are_apart(report: BatchReport, n_slots: int) -> None:
    assert {stage.slot for stage in report.stages} <= set(range(n_slots))
    for slot in range(n_slots):
        mine = sorted((s for s in report.stages if s.slot == slot), key=lambda s: s.start_s)
        for stage, following in pairwise(mine):
            assert stage.end_s <= following.start_s


async def test_an_engine_that_takes_far_longer_than_the_rest_has_a_copy(bulk: Bulk) -> None:
    pool = {"busy_engines": 2, "cores": 2, "memory_gib": 4}
    text = registry({"main": ONE}, pool=pool, experts={"cas": SLOW})
    measured(bulk.folder, text, cas=1.0)

    async with asyncio.timeout(PATIENCE_S):
        report = await bulk.run(text, bulk.questions(300), composition="cas")

    assert [stage.experts for stage in report.stages] == [("cas",), ("cas",)]
    assert {stage.slot for stage in report.stages} == {0, 1}
    assert sum(stage.requests for stage in report.stages) == 300
    assert min(stage.requests for stage in report.stages) > 0
    assert report.loads == 2
    assert len(bulk.asked()) == len(set(bulk.asked())) == 300
    assert (report.n_answered, len(bulk.results())) == (300, 300)


async def test_an_engine_has_no_copy_where_memory_is_short_of_one(bulk: Bulk) -> None:
    pool = {"busy_engines": 2, "cores": 2, "memory_gib": 1.5}
    text = registry({"main": ONE}, pool=pool, experts={"cas": SLOW})
    measured(bulk.folder, text, cas=1.0)

    async with asyncio.timeout(PATIENCE_S):
        report = await bulk.run(text, bulk.questions(100), composition="cas")

    assert report.loads == 1
    assert report.n_answered == 100


@pytest.mark.parametrize("n_slots", [1, 2, 3])
async def test_each_stage_is_on_a_slot_of_its_own(bulk: Bulk, n_slots: int) -> None:
    pool = {"busy_engines": n_slots, "cores": 4, "memory_gib": 3}
    text = registry({"main": PANEL}, pool=pool)

    async with asyncio.timeout(PATIENCE_S):
        report = await bulk.run(text, bulk.questions(40))

    assert_slots_are_apart(report, n_slots)
    assert {stage.slot for stage in report.stages} == set(range(n_slots))
    assert report.n_answered == 40


def planned(folder: Path, text: str, **loads: Load) -> list[str]:
    """The order in which engines are asked."""
    (folder / "experts.yaml").write_text(text, "utf-8")
    specs = load_experts(folder / "experts.yaml")
    planner = StagePlanner(specs, Pool(specs, cache=folder))
    plan = planner.plan({planner.key(name): load for name, load in loads.items()})
    return [planner.experts(stage.engine)[0] for stage in plan.stages]


@pytest.mark.parametrize(
    ("age_limit_s", "first"), [(None, "cas"), (1000.0, "cas"), (50.0, "dan"), (1.0, "dan")]
)
def test_few_requests_come_before_many_where_they_would_grow_too_old(
    tmp_path: Path, age_limit_s: float | None, first: str
) -> None:
    text = registry({"main": ONE}, pool={"age_limit_s": age_limit_s} if age_limit_s else None)
    many, few = Load(100, 1000, 10_000, waited_s=12.0), Load(2, 20, 20, waited_s=11.0)
    assert planned(tmp_path, text, cas=many, dan=few)[0] == first


async def order_of(bulk: Bulk, **pool: Any) -> list[str]:
    """Whose turn it is, where engines are asked of one slow query at a time."""
    slow: dict[str, dict[str, float]] = dict.fromkeys(EXPERTS, SLOW)
    async with (
        asyncio.timeout(PATIENCE_S),
        bulk.composer(registry({"main": ONE}, pool=pool, experts=slow)) as composer,
    ):
        report = await run_batch(
            bulk.questions(40),
            composer.compositions["main"],
            composer.registry,
            composer.pool,
            bulk.folder / "run",
            window=1,
        )
    assert report.n_answered == len(bulk.results()) == 40
    assert len(bulk.asked()) == len(set(bulk.asked())) == 40
    return [stage.experts[0] for stage in report.stages]


async def test_a_turn_lasts_until_nothing_waits_while_no_request_is_too_old(bulk: Bulk) -> None:
    assert sorted(await order_of(bulk, age_limit_s=1e6)) == sorted(EXPERTS)


async def test_a_batch_ends_though_all_that_waits_is_older_than_the_limit_before_it_begins(
    bulk: Bulk,
) -> None:
    assert sorted(await order_of(bulk, age_limit_s=1e-6)) == sorted(EXPERTS)


async def test_a_batch_whose_requests_grow_too_old_is_answered_once(bulk: Bulk) -> None:
    assert set(await order_of(bulk, age_limit_s=0.1)) == set(EXPERTS)


def turns_of(folder: Path, age_limit_s: float | None) -> tuple[Turns, Waiting, StagePlanner]:
    text = registry({"main": ONE}, pool={"age_limit_s": age_limit_s} if age_limit_s else None)
    (folder / "experts.yaml").write_text(text, "utf-8")
    specs = load_experts(folder / "experts.yaml")
    planner, waiting = StagePlanner(specs, Pool(specs, cache=folder)), Waiting()
    return Turns(planner, waiting), waiting, planner


@pytest.mark.parametrize(("age_limit_s", "goes_on"), [(None, True), (1e6, True), (1e-9, False)])
def test_a_turn_hands_over_once_another_engines_request_has_grown_too_old(
    tmp_path: Path, age_limit_s: float | None, goes_on: bool
) -> None:
    turns, waiting, planner = turns_of(tmp_path, age_limit_s)
    turn = turns.begin(planner.key("cas"), is_load=True)
    assert turn is not None
    assert turns.goes_on(turn)
    waiting.add(planner.key("dan"), 0, Load(1))
    assert turns.goes_on(turn) is goes_on


def test_a_turn_goes_on_whatever_was_too_old_before_it_began_or_waits_for_itself(
    tmp_path: Path,
) -> None:
    turns, waiting, planner = turns_of(tmp_path, 1e-9)
    waiting.add(planner.key("dan"), 0, Load(1))
    turn = turns.begin(planner.key("cas"), is_load=True)
    assert turn is not None
    waiting.add(planner.key("cas"), 1, Load(1))
    assert turns.goes_on(turn)


def test_there_are_no_more_turns_than_slots(tmp_path: Path) -> None:
    turns, _, planner = turns_of(tmp_path, None)
    first = turns.begin(planner.key("cas"), is_load=True)
    assert first is not None
    assert turns.begin(planner.key("dan"), is_load=True) is None
    turns.end(first)
    again = turns.begin(planner.key("dan"), is_load=True)
    assert again is not None
    assert (again.slot, again.replica) == (0, 0)


async def test_how_fast_engines_wrote_is_known_to_the_next_pool(bulk: Bulk) -> None:
    text = registry({"main": ONE}, experts={"cas": {"first_token_s": 1.2}})
    measured(bulk.folder, text, cas=1.0)
    async with asyncio.timeout(PATIENCE_S):
        report = await bulk.run(text, bulk.questions(50), composition="cas")

    (stage,) = report.stages
    specs = load_experts(bulk.folder / "experts.yaml")
    rate = Pool(specs, cache=bulk.folder).tokens_per_s("cas")
    seconds = stage.end_s - stage.start_s - stage.load_s
    assert rate == pytest.approx(stage.completion_tokens / seconds, rel=0.01)


async def test_the_rate_of_a_moment_is_not_kept(bulk: Bulk) -> None:
    text = registry({"main": ONE})
    measured(bulk.folder, text, cas=5.0)
    await bulk.run(text, bulk.questions(3), composition="cas")

    specs = load_experts(bulk.folder / "experts.yaml")
    assert Pool(specs, cache=bulk.folder).tokens_per_s("cas") == 5.0
