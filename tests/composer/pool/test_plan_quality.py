"""How early plans end: beside the optimum, beside plain LPT, with replicas and without."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.optimize as optimize  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.pool.makespan import Assignment, whole
from composer.pool.packing import packed
from composer.pool.plan import EngineCost, Node, Plan, Waiting, make_plan
from composer.pool.problem import make_problem
from composer.pool.replicas import MIN_GAIN, lower_bound_s

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

GIB = 1 << 30
Jobs = list[tuple[float, float]]
"""Seconds of load and of work."""


def engines(jobs: Jobs) -> list[EngineCost]:
    """A thousand tokens a second, all prompt."""
    return [EngineCost(f"e{i}", 1, load_s, 1000, 1000) for i, (load_s, _) in enumerate(jobs)]


def rows(jobs: Jobs, each: int = 1) -> Waiting:
    """So many equal requests an engine."""
    n = len(jobs) * each
    tokens = np.repeat([1000 * work_s / each for _, work_s in jobs], each)
    numbers = np.repeat(np.arange(len(jobs), dtype=np.int32), each)
    return Waiting(numbers, np.zeros(n, np.int32), tokens.astype(np.float32))


def plan(jobs: Jobs, slots: int, each: int = 1, **options: Any) -> Plan:
    return make_plan(rows(jobs, each), engines(jobs), [Node("a", 100, slots)], **options)


def optimum_s(seconds: Float64Array, slots: int) -> float:
    """The least end of whole jobs on identical slots, by integer programming."""
    n = len(seconds)
    once = np.zeros((n, n * slots + 1))
    load = np.zeros((slots, n * slots + 1))
    for job in range(n):
        once[job, job * slots : (job + 1) * slots] = 1
        for slot in range(slots):
            load[slot, job * slots + slot] = seconds[job]
    load[:, -1] = -1
    # Slots are alike: the longest job may as well be on the first.
    most = np.ones(n * slots + 1)
    longest = int(np.argmax(seconds))
    most[longest * slots + 1 : (longest + 1) * slots] = 0
    most[-1] = np.inf
    scipy: Any = optimize
    found = scipy.milp(
        np.eye(n * slots + 1)[-1],
        integrality=np.arange(n * slots + 1) < n * slots,
        bounds=(0, most),
        constraints=[
            scipy.LinearConstraint(once, 1, 1),
            scipy.LinearConstraint(load, -np.inf, 0),
        ],
    )
    return float(found.fun)


def longest_first_s(seconds: Float64Array, slots: int) -> float:
    """Where plain LPT ends."""
    total = np.zeros(slots)
    for each in np.sort(seconds)[::-1]:
        total[np.argmin(total)] += each
    return float(total.max())


def test_on_small_cases_a_plan_ends_within_a_twentieth_of_the_optimum() -> None:
    rng = np.random.default_rng(0)
    ratios: list[float] = []
    for _ in range(200):
        slots = int(rng.integers(2, 4))
        n = int(rng.integers(slots + 1, 7))
        jobs = list(zip(rng.uniform(1, 20, n), rng.lognormal(3, 0.7, n), strict=True))
        best_s = optimum_s(np.array(jobs).sum(axis=1), slots)
        ratios.append(plan(jobs, slots, replicas=False).estimate.seconds / best_s)
    assert min(ratios) > 0.9999
    assert max(ratios) < 1.05
    assert np.mean(ratios) < 1.002


JOBS = st.lists(
    st.tuples(st.sampled_from([0.0, 5.0, 20.0]), st.floats(1, 100)), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=60)
@given(JOBS, st.integers(1, 4), st.integers(1, 20), st.booleans())
def test_no_plan_ends_later_than_plain_lpt(
    jobs: Jobs, slots: int, each: int, replicas: bool
) -> None:
    lpt_s = longest_first_s(np.array(jobs).sum(axis=1), slots)
    assert plan(jobs, slots, each, replicas=replicas).estimate.seconds <= lpt_s * (1 + 1e-6)


@settings(deadline=None, max_examples=60)
@given(JOBS, st.integers(1, 4), st.integers(1, 20), st.booleans())
def test_no_plan_ends_before_the_lower_bound(
    jobs: Jobs, slots: int, each: int, ahead: bool
) -> None:
    nodes = [Node("a", 100, slots, can_load_ahead=ahead), Node("b", 100, 1, ("e0",))]
    bound_s = lower_bound_s(make_problem(rows(jobs, each), engines(jobs), nodes).work)
    found = make_plan(rows(jobs, each), engines(jobs), nodes)
    assert 0 <= bound_s <= found.estimate.seconds * (1 + 1e-6)


def test_the_bound_counts_the_loads_that_replicas_cannot_do_without() -> None:
    jobs = [(10.0, 90.0)]
    work = make_problem(rows(jobs, 90), engines(jobs), [Node("a", 100, 3)]).work
    assert lower_bound_s(work) == pytest.approx(40)


def test_an_engine_is_split_where_one_slot_would_take_all_day() -> None:
    found = plan([(10.0, 900.0), (10.0, 50.0)], slots=4, each=100)
    stages = [stage for stage in found.stages if stage.engine == "e0"]
    assert {stage.slot for stage in stages} >= {0, 1, 2}
    assert all(stage.is_load for stage in stages)
    assert found.estimate.seconds < 270


def test_an_engine_is_split_where_what_is_left_over_fills_no_slot() -> None:
    found = plan([(1.0, 99.0), (1.0, 99.0), (1.0, 99.0)], slots=2, each=99)
    assert found.estimate.loads == 4
    assert found.estimate.seconds == pytest.approx(150.5, rel=0.02)


def test_no_engine_is_split_where_the_slots_are_even_already() -> None:
    assert plan([(10.0, 90.0)] * 4, slots=2, each=100).estimate.loads == 4


def test_no_engine_is_split_where_a_load_costs_more_than_is_saved() -> None:
    assert plan([(60.0, 50.0), (60.0, 20.0)], slots=2, each=100).estimate.loads == 2


def test_no_engine_is_split_where_that_is_not_wanted() -> None:
    assert plan([(10.0, 900.0)], slots=4, each=100, replicas=False).estimate.loads == 1


def test_a_single_request_is_never_split() -> None:
    assert plan([(0.0, 100.0)], slots=2).estimate.loads == 1


@settings(deadline=None, max_examples=60)
@given(JOBS, st.integers(1, 4), st.integers(1, 20))
def test_replicas_are_used_only_where_they_shorten_the_plan(
    jobs: Jobs, slots: int, each: int
) -> None:
    found, single = (plan(jobs, slots, each, replicas=r).estimate for r in (True, False))
    assert found.loads == single.loads or found.seconds < single.seconds * (1 - MIN_GAIN) * (
        1 + 1e-9
    )


def test_a_replica_needs_no_load_on_a_node_that_holds_the_engine() -> None:
    jobs = [(60.0, 50.0)]
    nodes = [Node("a", 100, 1, ("e0",)), Node("b", 100, 1, ("e0",))]
    found = make_plan(rows(jobs, 100), engines(jobs), nodes).estimate
    assert (found.loads, found.seconds) == (0, pytest.approx(25))


def test_a_node_that_holds_an_engine_once_loads_it_for_a_second_slot() -> None:
    jobs = [(10.0, 100.0)]
    found = make_plan(rows(jobs, 100), engines(jobs), [Node("a", 100, 2, ("e0",))]).estimate
    assert (found.loads, found.seconds) == (1, pytest.approx(55, rel=0.05))


def test_the_rows_that_a_failed_node_leaves_are_planned_on_what_the_others_hold() -> None:
    jobs = [(10.0, 20.0)] * 4
    nodes = [Node("a", 100, 1), Node("b", 100, 1)]
    first = make_plan(rows(jobs), engines(jobs), nodes)
    lost = [stage for stage in first.stages if stage.node == "b"]
    left = np.concatenate([stage.requests for stage in lost])
    everything = rows(jobs)
    again = make_plan(
        Waiting(
            everything.engine[left],
            everything.prompt_tokens[left],
            everything.completion_tokens[left],
        ),
        engines(jobs),
        [Node("a", 100, 1, (lost[1].engine,))],
    )
    assert [stage.engine for stage in again.stages] == [lost[1].engine, lost[0].engine]
    assert again.estimate.seconds == pytest.approx(50)


AGED = st.lists(
    st.tuples(st.sampled_from([0.0, 5.0]), st.floats(1, 50), st.floats(0, 60)),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(AGED, st.floats(20, 200))
def test_no_order_of_a_slot_exceeds_the_limit_of_age_by_less(
    jobs: list[tuple[float, float, float]], limit_s: float
) -> None:
    def over_s(order: tuple[int, ...]) -> float:
        ends = np.cumsum([0.0, *(jobs[job][0] + jobs[job][1] for job in order)])
        return max(
            max(0.0, end + jobs[j][2] - limit_s) for j, end in zip(order, ends, strict=False)
        )

    found = make_plan(
        Waiting(
            np.arange(len(jobs), dtype=np.int32),
            np.zeros(len(jobs), np.int32),
            np.array([1000 * work_s for _, work_s, _ in jobs], np.float32),
            np.array([waited_s for _, _, waited_s in jobs], np.float32),
        ),
        engines([(load_s, work_s) for load_s, work_s, _ in jobs]),
        [Node("a", 100, 1)],
        age_limit_s=limit_s,
    )
    order = tuple(int(stage.requests[0]) for stage in found.stages)
    best_s = min(over_s(each) for each in permutations(range(len(jobs))))
    assert over_s(order) == pytest.approx(best_s, abs=1e-3)


def aged(*jobs: tuple[float, float]) -> Waiting:
    """One request an engine: seconds of work, and how long it has waited."""
    return Waiting(
        np.arange(len(jobs), dtype=np.int32),
        np.zeros(len(jobs), np.int32),
        np.array([1000 * work_s for work_s, _ in jobs], np.float32),
        np.array([waited_s for _, waited_s in jobs], np.float32),
    )


def test_an_engine_at_risk_goes_before_an_older_and_longer_one_that_is_not() -> None:
    made, nodes = engines([(0.0, 0.0)] * 2), [Node("a", 100, 1, ("e0",))]
    waiting = aged((50, 0), (5, 60))
    free, limited = (make_plan(waiting, made, nodes, age_limit_s=s) for s in (None, 100))
    assert [stage.engine for stage in free.stages] == ["e0", "e1"]
    assert [stage.engine for stage in limited.stages] == ["e1", "e0"]


def test_the_limit_of_age_leaves_an_order_alone_that_meets_it() -> None:
    made, nodes = engines([(0.0, 0.0)] * 2), [Node("a", 100, 1, ("e0",))]
    found = make_plan(aged((50, 0), (5, 40)), made, nodes, age_limit_s=100)
    assert [stage.engine for stage in found.stages] == ["e0", "e1"]


def test_a_rare_engine_is_not_starved_by_one_that_is_asked_again_and_again() -> None:
    made, now_s, limit_s = engines([(10.0, 0.0), (10.0, 0.0)]), 0.0, 200.0
    for _ in range(10):
        waiting = aged((60, 0), (5, now_s))
        found = make_plan(
            waiting, made, [Node("a", 100, 1, ("e0",))], last=["e1"], age_limit_s=limit_s
        )
        first = found.stages[0]
        if first.engine == "e1":
            break
        now_s += first.end_s
    assert 60 <= now_s <= limit_s


def refusal(engine: EngineCost, *nodes: Node) -> str:
    waiting = Waiting(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32))
    with pytest.raises(ConfigError) as refused:
        make_plan(waiting, [engine], nodes)
    return str(refused.value)


def test_an_engine_larger_than_every_node_is_refused_with_what_is_missing() -> None:
    engine = EngineCost("big", 20 * GIB, 1, 1, 1)
    assert refusal(engine, Node("a", 8 * GIB, 1), Node("b", 12 * GIB, 1)) == (
        "engine 'big' takes 20.00 GiB, 8.00 GiB more than the largest node, 'b', has; "
        "give a node more memory, or the engine a shorter context or smaller weights"
    )


def test_requests_without_a_node_are_refused() -> None:
    assert refusal(EngineCost("e", 1, 1, 1, 1)) == (
        "requests wait and there is no node; name one at least"
    )


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("kind", ["prompt", "completion"])
def test_a_rate_that_is_not_above_0_is_refused(rate: float, kind: str) -> None:
    rates = {"prompt_tokens_per_s": 1.0, "completion_tokens_per_s": 1.0}
    rates[f"{kind}_tokens_per_s"] = rate
    with pytest.raises(ConfigError) as refused:
        EngineCost("e", 1, 1, **rates)
    assert str(refused.value) == f"engine 'e' does {rate!r} {kind} tokens/s; give a rate above 0"


@pytest.mark.parametrize("load_s", [-1.0, float("inf"), float("nan")])
def test_a_load_of_no_seconds_that_there_are_is_refused(load_s: float) -> None:
    with pytest.raises(ConfigError, match=r"engine 'e' loads in .* s; give a number from 0"):
        EngineCost("e", 1, load_s, 1, 1)


def test_a_node_without_slots_is_refused() -> None:
    with pytest.raises(ConfigError, match="node 'a' has 0 slots; give it one at least"):
        Node("a", 1, 0)


def test_columns_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Waiting(np.zeros(2, np.int32), np.zeros(1, np.int32), np.zeros(2, np.float32))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_tokens_that_are_no_number_from_0_are_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="no number from 0"):
        Waiting(np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([bad], np.float32))


def test_an_engine_that_there_is_not_is_an_error() -> None:
    waiting = Waiting(np.ones(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="engine 1 is not one of 1"):
        make_plan(waiting, [EngineCost("e", 1, 1, 1, 1)], [Node("a", 1, 1)])


def test_a_plan_that_no_move_or_swap_shortens_is_not_the_last_word() -> None:
    jobs = [(0.0, work_s) for work_s in (12.0, 7.0, 5.0, 10.0, 10.0, 19.0)]
    assert plan(jobs, slots=3, replicas=False).estimate.seconds == 22


def test_the_engine_is_split_whose_replica_pays_not_the_one_that_is_held() -> None:
    jobs = [(60.0, 60.0), (2.0, 60.0), (2.0, 80.0)]
    nodes = [Node("a", 100, 2, ("e0",))]
    found = make_plan(rows(jobs, 60), engines(jobs), nodes).estimate
    assert (found.loads, found.seconds) == (3, pytest.approx(103, rel=0.02))


def test_as_many_parts_of_an_engine_need_no_load_as_nodes_hold_it() -> None:
    nodes = [Node("a", 100, 2, ("e0",)), Node("b", 100, 1)]
    work = make_problem(rows([(10.0, 9.0)], 9), engines([(10.0, 9.0)]), nodes).work
    parts = Assignment(*(np.array(column) for column in ([0, 0], [0, 4], [4, 9], [0, 0])))
    assert work.loads(parts).tolist() == [[0, 0, 10], [10, 10, 10]]


def test_packing_gives_no_node_more_at_a_time_than_it_has_slots() -> None:
    nodes = [Node("a", 1000, 1), Node("b", 100, 1)]
    jobs = [(0.0, 10.0)] * 4
    work = make_problem(rows(jobs), engines(jobs), nodes).work
    packed_parts = packed(work, whole(work), np.ones(4, np.int64), nodes)
    assert sorted(packed_parts.slot.tolist()) == [0, 0, 1, 1]
