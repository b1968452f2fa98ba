from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.pool.plan import EngineCost, Node, Plan, Stage, Waiting, make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOM = 100
CLOSE_S = 1e-6


def engine(key: str, load_s: float = 10.0, memory_bytes: int = 10, **options: float) -> EngineCost:
    """One that reads and writes a token a second."""
    return EngineCost(key, memory_bytes, load_s, 1.0, 1.0, **options)


def engines(n: int, load_s: float = 10.0, memory_bytes: int = 10) -> list[EngineCost]:
    return [engine(f"e{number}", load_s, memory_bytes) for number in range(n)]


def waiting(rows: Sequence[tuple[int, int]], waited_s: Sequence[float] | None = None) -> Waiting:
    """Rows of an engine and how many seconds of prompt it reads for it."""
    return Waiting(
        np.array([number for number, _ in rows], np.int32),
        np.array([seconds for _, seconds in rows], np.int32),
        np.zeros(len(rows), np.float32),
        None if waited_s is None else np.array(waited_s, np.float32),
    )


def node(slots: int = 1, name: str = "a", memory_bytes: int = ROOM, **options: Any) -> Node:
    return Node(name, memory_bytes, slots, **options)


def order(plan: Plan) -> list[str]:
    return [stage.engine for stage in plan.stages]


@dataclass(frozen=True)
class Batch:
    waiting: Waiting
    engines: list[EngineCost]
    nodes: list[Node]

    def plan(self, **options: Any) -> Plan:
        return make_plan(self.waiting, self.engines, self.nodes, **options)

    @property
    def work_s(self) -> NDArray[np.float64]:
        """Seconds of generation of each engine."""
        seconds = self.waiting.prompt_tokens + self.waiting.completion_tokens
        return np.bincount(self.waiting.engine, seconds, len(self.engines)).astype(np.float64)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Up to six engines of up to ten bytes and 30 rows on up to three nodes, one of ten bytes."""
    m = draw(st.integers(1, 6))
    made: list[EngineCost] = [
        EngineCost(f"e{i}", draw(st.integers(0, 10)), draw(st.sampled_from([0.0, 1.0, 7.5])), 1, 1)
        for i in range(m)
    ]
    n = draw(st.integers(1, 30))
    column = st.lists(st.integers(0, 20), min_size=n, max_size=n)
    waited = np.array(draw(column), np.float32)
    rows = Waiting(
        np.array(draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)), np.int32),
        np.array(draw(column), np.int32),
        np.array(draw(column), np.float32),
        draw(st.sampled_from([None, waited])),
    )
    nodes = [
        Node(
            f"n{i}",
            10 if i == 0 else draw(st.integers(0, 30)),
            draw(st.integers(1, 3)),
            tuple(draw(st.lists(st.sampled_from([each.key for each in made]), max_size=3))),
            draw(st.booleans()),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    return Batch(rows, made, nodes)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "last": st.sampled_from([("e0",), ("e1", "e2")]),
        "age_limit_s": st.sampled_from([0.0, 25.0, 100.0]),
        "replicas": st.booleans(),
    },
)


def held_bytes(batch: Batch, plan: Plan, name: str, at_s: float) -> int:
    """What the stages of a node hold: from its load, or from the beginning, to its end."""
    sizes = {engine.key: engine.memory_bytes for engine in batch.engines}
    return sum(
        sizes[stage.engine]
        for stage in plan.stages
        if stage.node == name and (stage.start_s if stage.is_load else 0) <= at_s < stage.end_s
    )


def by_slot(plan: Plan) -> dict[tuple[str, int], list[Stage]]:
    slots: dict[tuple[str, int], list[Stage]] = {}
    for stage in plan.stages:
        slots.setdefault((stage.node, stage.slot), []).append(stage)
    return slots


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_every_request_is_in_one_stage_of_its_engine(batch: Batch, options: dict[str, Any]) -> None:
    plan = batch.plan(**options)
    rows = np.concatenate([stage.requests for stage in plan.stages])
    assert sorted(rows.tolist()) == list(range(len(batch.waiting.engine)))
    for stage in plan.stages:
        assert len(stage.requests)
        assert {batch.engines[int(e)].key for e in batch.waiting.engine[stage.requests]} == {
            stage.engine
        }


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_no_node_ever_holds_more_than_its_memory(batch: Batch, options: dict[str, Any]) -> None:
    plan = batch.plan(**options)
    moments = {0.0, *(stage.start_s for stage in plan.stages)}
    held = {
        each.name: [held_bytes(batch, plan, each.name, at_s) for at_s in moments]
        for each in batch.nodes
    }
    assert all(max(held[each.name]) <= each.memory_bytes for each in batch.nodes)
    # A stage of no seconds holds its engine all the same.
    assert max(max(each) for each in held.values()) <= plan.estimate.peak_bytes <= 30


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_a_slot_does_one_thing_at_a_time_but_for_a_load_ahead(
    batch: Batch, options: dict[str, Any]
) -> None:
    plan = batch.plan(**options)
    nodes = {each.name: each for each in batch.nodes}
    work = {engine.key: 0.0 for engine in batch.engines}
    for (name, slot), stages in by_slot(plan).items():
        assert slot in range(nodes[name].slots)
        end_s = 0.0
        for stage in sorted(stages, key=lambda stage: stage.ready_s):
            cost = next(e for e in batch.engines if e.key == stage.engine)
            free_s = stage.start_s + (cost.load_s if stage.is_load else 0.0)
            assert stage.ready_s >= max(end_s, free_s) - CLOSE_S
            assert stage.is_ahead or stage.start_s >= end_s - CLOSE_S
            assert stage.is_ahead or stage.ready_s == pytest.approx(free_s)
            end_s = stage.end_s
            work[stage.engine] += stage.end_s - stage.ready_s
    assert list(work.values()) == pytest.approx(batch.work_s.tolist())


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_one_engine_at_a_time_is_loaded_ahead_and_only_where_that_is_allowed(
    batch: Batch, options: dict[str, Any]
) -> None:
    plan = batch.plan(**options)
    for each in batch.nodes:
        ahead = [s for s in plan.stages if s.node == each.name and s.is_ahead]
        assert each.can_load_ahead or not ahead
        assert all(s.is_load for s in ahead)
        for before, after in pairwise(ahead):
            assert after.start_s >= before.start_s + next(
                e.load_s for e in batch.engines if e.key == before.engine
            )


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_the_estimate_adds_up_the_stages(batch: Batch, options: dict[str, Any]) -> None:
    plan = batch.plan(**options)
    loads = [stage.engine for stage in plan.stages if stage.is_load]
    sizes = {engine.key: engine.memory_bytes for engine in batch.engines}
    assert plan.estimate.loads == len(loads)
    assert plan.estimate.loaded_bytes == sum(sizes[key] for key in loads)
    assert plan.estimate.seconds == max(stage.end_s for stage in plan.stages)
    assert plan.estimate.prompt_tokens == batch.waiting.prompt_tokens.sum()
    assert plan.estimate.completion_tokens == batch.waiting.completion_tokens.sum()


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_only_what_a_node_held_is_used_without_a_load(
    batch: Batch, options: dict[str, Any]
) -> None:
    plan = batch.plan(**options)
    for each in batch.nodes:
        used = Counter(s.engine for s in plan.stages if s.node == each.name and not s.is_load)
        assert used <= Counter(each.resident)


@settings(deadline=None, max_examples=40)
@given(batches(), OPTIONS)
def test_no_plan_is_shorter_than_its_bounds(batch: Batch, options: dict[str, Any]) -> None:
    plan = batch.plan(**options)
    slots = sum(each.slots for each in batch.nodes)
    held = {key for each in batch.nodes for key in each.resident}
    first = min(
        0.0 if e.key in held else e.load_s
        for e, n in zip(batch.engines, np.bincount(batch.waiting.engine, minlength=9), strict=False)
        if n
    )
    assert plan.estimate.seconds >= max(first, batch.work_s.sum() / slots) - CLOSE_S


@settings(deadline=None, max_examples=40)
@given(batches())
def test_the_same_input_gives_the_same_plan(batch: Batch) -> None:
    first, second = batch.plan(), batch.plan()
    assert first.estimate == second.estimate
    for one, other in zip(first.stages, second.stages, strict=True):
        assert one.requests.tolist() == other.requests.tolist()
        assert replace(one, requests=other.requests).__repr__() == other.__repr__()


@settings(deadline=None, max_examples=40)
@given(batches(), st.integers(0, 3))
def test_one_slot_loads_each_engine_that_it_does_not_hold_once(batch: Batch, resident: int) -> None:
    held = tuple(e.key for e in batch.engines[:resident])
    plan = Batch(batch.waiting, batch.engines, [node(resident=held)]).plan()
    asked = {batch.engines[int(number)].key for number in batch.waiting.engine}
    assert sorted(order(plan)) == sorted(asked)
    assert plan.estimate.loads == len(asked - set(held))


def test_nothing_that_waits_is_an_empty_plan() -> None:
    plan = make_plan(waiting([]), engines(2), [])
    assert plan.stages == ()
    assert (plan.estimate.loads, plan.estimate.seconds, plan.estimate.usd) == (0, 0.0, 0.0)


def test_an_engine_that_nobody_asks_makes_no_stage_even_if_it_fits_nowhere() -> None:
    made = [engine("asked"), engine("idle", memory_bytes=ROOM + 1)]
    assert order(make_plan(waiting([(0, 5)]), made, [node()])) == ["asked"]


def test_prompts_and_completions_are_read_and_written_at_their_own_rates() -> None:
    rows = Waiting(np.zeros(1, np.int32), np.array([60], np.int32), np.array([8], np.float32))
    cost = EngineCost("e", 10, 5.0, 30.0, 2.0, input_usd_per_mtok=2.0, output_usd_per_mtok=10.0)
    (stage,) = (plan := make_plan(rows, [cost], [node()])).stages
    assert (stage.start_s, stage.ready_s, stage.end_s) == (0.0, 5.0, 11.0)
    assert plan.estimate.usd == pytest.approx((60 * 2 + 8 * 10) / 1e6)


def test_engines_that_are_held_come_first_and_those_asked_again_last() -> None:
    made = engines(3)
    rows = waiting([(0, 50), (1, 10), (2, 5)])
    plan = make_plan(rows, made, [node(resident=("e2",))], last=["e0", "unheard-of"])
    assert order(plan) == ["e2", "e1", "e0"]
    assert [stage.is_load for stage in plan.stages] == [False, True, True]


def test_an_engine_that_is_held_and_asked_again_stays_until_its_turn() -> None:
    plan = make_plan(waiting([(0, 5), (1, 5)]), engines(2), [node(resident=("e0",))], last=["e0"])
    assert order(plan) == ["e1", "e0"]
    assert plan.estimate.loads == 1
    assert plan.estimate.peak_bytes == 20


def test_an_engine_that_is_held_gives_way_where_its_room_is_needed() -> None:
    tight = node(memory_bytes=15, resident=("e0",))
    plan = make_plan(waiting([(0, 5), (1, 5)]), engines(2), [tight], last=["e0"])
    assert order(plan) == ["e1", "e0"]
    assert plan.estimate.loads == 2
    assert plan.estimate.peak_bytes == 10


def test_engines_of_older_requests_come_earlier_and_a_stage_takes_its_oldest_first() -> None:
    rows = waiting([(0, 50), (1, 5), (1, 5), (2, 5)], waited_s=[1.0, 2.0, 9.0, 3.0])
    plan = make_plan(rows, engines(3), [node()])
    assert order(plan) == ["e1", "e2", "e0"]
    assert plan.stages[0].requests.tolist() == [2, 1]


def test_of_requests_of_one_age_the_engine_with_most_work_comes_first() -> None:
    assert order(make_plan(waiting([(0, 5), (1, 50), (2, 20)]), engines(3), [node()])) == [
        "e1",
        "e2",
        "e0",
    ]


def test_an_engine_goes_where_it_is_held_if_nothing_ends_later_for_it() -> None:
    nodes = [node(), node(name="b", resident=("e1",))]
    plan = make_plan(waiting([(0, 100), (1, 20), (2, 40)]), engines(3), nodes)
    assert plan.estimate.loads == 2
    assert [(s.node, s.is_load) for s in plan.stages if s.engine == "e1"] == [("b", False)]


def test_an_engine_is_loaded_elsewhere_where_waiting_for_its_node_takes_longer() -> None:
    nodes = [node(), node(name="b", resident=("e0", "e1"))]
    plan = make_plan(waiting([(0, 100), (1, 100)]), engines(2), nodes)
    assert plan.estimate.seconds == 110
    assert plan.estimate.loads == 1


def test_slots_wait_where_memory_holds_fewer_engines_than_there_are_slots() -> None:
    made = engines(4, memory_bytes=60)
    plan = make_plan(waiting([(n, 10) for n in range(4)]), made, [node(4)], replicas=False)
    assert [stage.start_s for stage in plan.stages] == [0, 20, 40, 60]


def test_small_engines_run_beside_large_ones_where_memory_is_short() -> None:
    made = [
        *engines(2, memory_bytes=60),
        engine("s0", memory_bytes=40),
        engine("s1", memory_bytes=40),
    ]
    plan = make_plan(waiting([(n, 10) for n in range(4)]), made, [node(2)], replicas=False)
    assert plan.estimate.seconds == 40
    assert plan.estimate.peak_bytes == ROOM


def test_an_engine_goes_to_a_node_that_it_fits() -> None:
    made = [engine("large", memory_bytes=50), engine("small")]
    nodes = [node(name="small", memory_bytes=20), node(name="large", memory_bytes=50)]
    plan = make_plan(waiting([(0, 10), (1, 10)]), made, nodes)
    assert {stage.engine: stage.node for stage in plan.stages} == {
        "large": "large",
        "small": "small",
    }


def test_a_load_ahead_hides_behind_the_stage_before() -> None:
    rows = waiting([(0, 30), (1, 20), (2, 5)])
    plan = make_plan(rows, engines(3), [node(can_load_ahead=True)])
    assert [(s.start_s, s.ready_s, s.end_s) for s in plan.stages] == [
        (0, 10, 40),
        (10, 40, 60),
        (40, 60, 65),
    ]
    assert [stage.is_ahead for stage in plan.stages] == [False, True, True]
    assert plan.estimate.peak_bytes == 20


def test_a_load_ahead_that_is_not_done_in_time_is_waited_for() -> None:
    made = [engine("e0"), engine("e1", load_s=50)]
    rows = waiting([(0, 30), (1, 20)], waited_s=[2.0, 1.0])
    plan = make_plan(rows, made, [node(can_load_ahead=True)])
    assert [(s.start_s, s.ready_s) for s in plan.stages] == [(0, 10), (10, 60)]


def test_nothing_is_loaded_ahead_where_it_does_not_fit_beside_what_runs() -> None:
    made = engines(2, memory_bytes=60)
    plan = make_plan(waiting([(0, 30), (1, 20)]), made, [node(can_load_ahead=True)])
    assert [stage.is_ahead for stage in plan.stages] == [False, False]


def test_the_core_that_loads_ahead_does_one_load_at_a_time() -> None:
    made = [engine(key, load_s) for key, load_s in (("a", 0), ("b", 0), ("c", 50), ("d", 50))]
    rows = waiting([(0, 20), (1, 22), (2, 30), (3, 30)], waited_s=[9.0, 9.0, 0.0, 0.0])
    plan = make_plan(rows, made, [node(2, can_load_ahead=True)], replicas=False)
    loads = sorted((s.start_s, s.is_ahead) for s in plan.stages if s.engine in ("c", "d"))
    assert loads == [(0, True), (22, False)]


def test_of_engines_held_for_later_the_one_wanted_last_makes_room() -> None:
    tight = node(memory_bytes=25, resident=("e0", "e1"))
    rows = waiting([(0, 50), (1, 5), (2, 5)])
    plan = make_plan(rows, engines(3), [tight], last=["e0", "e1"])
    assert [(s.engine, s.is_load) for s in plan.stages] == [
        ("e2", True),
        ("e0", False),
        ("e1", True),
    ]


def test_an_engine_goes_back_to_its_node_even_where_it_would_end_earlier_elsewhere() -> None:
    nodes = [node(name="a"), node(name="b", resident=("e3",)), node(name="c")]
    rows = waiting([(0, 100), (1, 50), (2, 35), (3, 20)])
    plan = make_plan(rows, engines(4), nodes, replicas=False)
    assert plan.estimate.loads == 3
    assert plan.estimate.seconds == 110


@settings(deadline=None, max_examples=40)
@given(batches())
def test_with_memory_for_all_slots_no_slot_has_two_stages_of_one_engine(batch: Batch) -> None:
    roomy = [replace(each, memory_bytes=ROOM) for each in batch.nodes]
    stages = replace(batch, nodes=roomy).plan().stages
    assert len({(s.node, s.slot, s.engine) for s in stages}) == len(stages)
