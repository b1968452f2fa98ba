"""The simulator on small traces with known answers, and beside the pool's own placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.pool.eviction import EVICTIONS, EvictionName, Evictor
from composer.pool.residency import Holding, Placement, place
from eval.simulate.hardware import Hardware, make_hardware
from eval.simulate.order import grouped_order, windowed_order
from eval.simulate.residency import find_loads
from eval.simulate.simulator import Outcome, make_runs, simulate
from eval.simulate.trace import Aggregation, Trace, add_aggregator, make_trace

if TYPE_CHECKING:
    from eval.simulate.trace import Int64Array


def column(values: Sequence[int]) -> Int64Array:
    return np.array(values, np.int64)


def trace_of(asked: str, queries: str = "", stages: str = "") -> Trace:
    """Requests of 10 tokens to experts named by a letter; by default a query each."""
    experts = tuple(sorted(set(asked)))
    n = len(asked)
    return Trace(
        experts,
        column([int(q) for q in queries] if queries else range(n)),
        column([experts.index(name) for name in asked]),
        column([int(s) for s in stages] if stages else [0] * n),
        np.zeros(n, np.int64),
        np.full(n, 10, np.int64),
    )


def names(trace: Trace, numbers: Int64Array) -> list[str]:
    asked: list[int] = numbers.tolist()
    return [trace.experts[number] for number in asked]


def machine(trace: Trace, memory: str = "1", slots: int = 1, switch_s: float = 0.0) -> Hardware:
    """A load takes 100 s, a request of 10 tokens 1 s."""
    return make_hardware(
        trace.experts, memory=memory, load_s=100.0, slots=slots, switch_s=switch_s,
        completion_tokens_per_s=10.0,
    )  # fmt: skip


def outcomes(
    trace: Trace,
    *windows: int,
    memory: str = "1",
    slots: int = 1,
    switch_s: float = 0.0,
) -> dict[tuple[str, str], Outcome]:
    found = simulate(trace, machine(trace, memory, slots, switch_s), windows=windows)
    return {(outcome.order, outcome.policy): outcome for outcome in found}


def run_order(trace: Trace, window: int) -> str:
    order = windowed_order(trace, np.ones(len(trace)), window)
    return "".join(names(trace, trace.expert[order]))


def test_in_order_of_arrival_whoever_is_not_there_is_loaded() -> None:
    found = outcomes(trace_of("abab"))
    assert found["arrival", "lru"].loads == 4
    assert found["arrival", "lru"].hit_rate == 0.0
    assert found["arrival", "lru"].seconds == 404.0
    assert found["grouped", "belady"].loads == 2
    assert found["grouped", "belady"].hit_rate == 0.5
    assert found["grouped", "belady"].seconds == 204.0


def test_all_policies_are_run_on_arrival_and_on_each_window() -> None:
    found = outcomes(trace_of("abab"), 2, 4)
    orders = ("arrival", "window 2", "window 4")
    assert set(found) == {(o, p) for o in orders for p in EVICTIONS} | {("grouped", "belady")}


def test_the_policies_differ_where_they_should() -> None:
    found = outcomes(trace_of("aaabcbca"), memory="2")
    loads = {
        policy: outcome.loads for (order, policy), outcome in found.items() if order != "grouped"
    }
    assert loads == {"lru": 4, "lfu": 5, "greedy-dual": 4, "belady": 4}


def test_a_window_begins_with_who_was_asked_last() -> None:
    assert run_order(trace_of("abcabcabc"), 3) == "abccbaabc"


def test_a_window_is_counted_in_requests_and_the_last_may_be_short() -> None:
    assert run_order(trace_of("abababa"), 4) == "aabbbaa"


def test_a_window_of_one_request_is_the_order_of_arrival() -> None:
    assert run_order(trace_of("cabbacab"), 1) == "cabbacab"


def test_a_window_of_all_requests_groups_them() -> None:
    trace = trace_of("bacabcab")
    assert run_order(trace, 8) == run_order(trace, 100)
    assert list(grouped_order(trace, np.ones(8))) == list(windowed_order(trace, np.ones(8), 8))


def test_who_has_most_to_do_is_first_and_who_is_asked_again_last() -> None:
    trace = trace_of("bcaabbb" + "b", queries="01234560", stages="00000001")
    assert run_order(trace, 8) == "aacbbbbb"


def test_stages_of_a_query_stay_in_order_within_a_window() -> None:
    assert run_order(trace_of("abab", queries="0011", stages="0101"), 4) == "aabb"
    assert run_order(trace_of("baba", queries="0011", stages="0101"), 2) == "baba"


def test_an_aggregator_asks_once_a_query_after_its_others() -> None:
    trace = add_aggregator(trace_of("abcab", queries="00101"), "outside")
    assert [trace.experts[e] for e in trace.expert] == ["a", "b", "c", "a", "aggregator", "b",
                                                        "aggregator"]  # fmt: skip
    assert list(trace.query) == [0, 0, 1, 0, 0, 1, 1]
    assert list(trace.stage) == [0, 0, 0, 0, 1, 0, 1]
    assert list(trace.prompt_tokens[trace.stage == 1]) == [30, 20]
    assert list(trace.completion_tokens[trace.stage == 1]) == [10, 10]


@pytest.mark.parametrize(("aggregation", "loads"), [("none", 3), ("inside", 3), ("outside", 4)])
def test_an_aggregator_of_the_pool_costs_no_load_and_another_one(
    aggregation: Aggregation, loads: int
) -> None:
    made = make_trace(queries=20, experts=3, distinct=2)
    trace = add_aggregator(made, aggregation)
    assert outcomes(trace)["grouped", "belady"].loads == loads


def test_a_switch_costs_seconds_where_nothing_is_loaded() -> None:
    found = outcomes(trace_of("abab"), memory="2", switch_s=5.0)
    assert found["arrival", "lru"].seconds == 200 + 2 * 5 + 4
    assert found["grouped", "belady"].seconds == 200 + 4


def test_two_slots_load_two_experts_at_one_time() -> None:
    found = outcomes(trace_of("aabb"), memory="2", slots=2)["grouped", "belady"]
    assert (found.seconds, found.load_seconds) == (102.0, 200.0)
    assert list(found.schedule.slot) == [0, 1]


def test_two_slots_are_of_no_use_to_memory_for_one() -> None:
    trace = trace_of("aabb")
    assert outcomes(trace, slots=2)["grouped", "belady"].seconds == 204.0


def test_who_makes_room_has_ended_before() -> None:
    found = outcomes(trace_of("aaabc"), memory="2", slots=2)["arrival", "lru"].schedule
    assert list(found.start_s) == [0.0, 0.0, 103.0]
    assert list(found.ready_s) == [100.0, 100.0, 203.0]
    assert list(found.end_s) == [103.0, 101.0, 204.0]


def test_a_later_stage_waits_for_what_it_reads_and_for_no_more() -> None:
    waits = trace_of("abc", queries="000", stages="001")
    free = trace_of("abc", queries="012", stages="001")
    assert outcomes(waits, memory="3", slots=3)["arrival", "lru"].seconds == 202.0
    assert outcomes(free, memory="3", slots=3)["arrival", "lru"].seconds == 101.0


def test_a_stage_waits_for_the_one_before_it_that_its_query_has() -> None:
    skips = trace_of("abc", queries="010", stages="012")
    assert outcomes(skips, memory="3", slots=3)["arrival", "lru"].seconds == 202.0


def test_no_run_begins_before_the_one_before_it() -> None:
    found = outcomes(trace_of("abac"), memory="3", slots=4)["arrival", "lru"].schedule
    assert list(found.start_s) == [0.0, 0.0, 101.0, 101.0]


def test_one_expert_runs_in_one_slot_at_a_time() -> None:
    found = outcomes(trace_of("aba"), memory="2", slots=3)["arrival", "lru"].schedule
    assert list(found.start_s) == [0.0, 0.0, 101.0]


def test_a_switch_in_several_slots_is_to_another_expert_than_ran_there() -> None:
    found = outcomes(trace_of("abab"), memory="2", slots=2, switch_s=5.0)["arrival", "lru"]
    assert list(found.schedule.slot) == [0, 1, 0, 1]
    assert found.seconds == 102.0
    crossed = outcomes(trace_of("abbca"), memory="3", slots=2, switch_s=5.0)["arrival", "lru"]
    assert list(crossed.schedule.slot) == [0, 1, 0, 1]
    assert list(crossed.schedule.end_s) == [101.0, 102.0, 202.0, 108.0]


def test_loaded_bytes_are_those_of_the_loads() -> None:
    trace = trace_of("abab")
    figures = {"a": {"memory_gib": 2.0}, "b": {"memory_gib": 0.5, "load_s": 7.0}}
    hardware = make_hardware(trace.experts, memory="2GiB", figures=figures, load_s=100.0)
    found = simulate(trace, hardware, policies=["lru"])[0]
    assert (found.loads, found.loaded_bytes, found.load_seconds) == (4, 5 << 30, 214.0)


def test_memory_in_experts_holds_so_many_whatever_their_sizes() -> None:
    trace = trace_of("abab")
    figures = {"a": {"memory_gib": 2.0}, "b": {"memory_gib": 90.0}}
    found = simulate(trace, make_hardware(trace.experts, memory="2", figures=figures))[0]
    assert (found.loads, found.loaded_bytes) == (2, 92 << 30)


def test_the_known_case_of_sixteen_experts_and_memory_for_one() -> None:
    found = outcomes(make_trace(queries=1000, experts=16, distinct=3), 32, 256)
    assert found["arrival", "lru"].loads == 2939
    assert found["window 32", "lru"].loads == 1267
    assert found["window 256", "lru"].loads == 181
    assert found["grouped", "belady"].loads == 16


def test_a_query_of_a_made_trace_asks_different_experts_and_a_seed_repeats_it() -> None:
    trace = make_trace(queries=200, experts=5, distinct=4, popularity="zipf", seed=3)
    again = make_trace(queries=200, experts=5, distinct=4, popularity="zipf", seed=3)
    other = make_trace(queries=200, experts=5, distinct=4, popularity="zipf", seed=4)
    assert all(len(set(row)) == 4 for row in trace.expert.reshape(200, 4).tolist())
    assert list(trace.expert) == list(again.expert) != list(other.expert)


def test_popularity_is_uniform_or_falls_with_the_rank() -> None:
    uniform = make_trace(queries=22_000, experts=3, distinct=1)
    zipf = make_trace(queries=22_000, experts=3, distinct=1, popularity="zipf")
    assert np.bincount(uniform.expert) == pytest.approx([22_000 / 3] * 3, rel=0.05)
    assert np.bincount(zipf.expert) == pytest.approx([12_000, 6_000, 4_000], rel=0.05)


def test_a_trace_that_is_drawn_in_parts_is_whole() -> None:
    trace = make_trace(queries=12, experts=1_000_000, distinct=1)
    assert len(trace) == 12
    assert list(trace.query) == list(range(12))


@pytest.mark.parametrize(
    ("queries", "experts", "distinct", "message"),
    [
        (0, 3, 1, "an empty trace: 0 queries x 1 of 3 experts; give 1 or more of each"),
        (5, 3, 0, "an empty trace: 5 queries x 0 of 3 experts; give 1 or more of each"),
        (5, 3, 4, "a query cannot ask 4 different experts of 3; lower --distinct"),
    ],
)
def test_a_trace_that_cannot_be_made_is_refused(
    queries: int, experts: int, distinct: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        make_trace(queries=queries, experts=experts, distinct=distinct)


def test_an_unknown_policy_and_an_empty_window_are_refused() -> None:
    trace = trace_of("ab")
    with pytest.raises(ConfigError, match=r"^no policy 'lrv'; did you mean 'lru'\?"):
        simulate(trace, machine(trace), policies=["lrv"])
    with pytest.raises(ConfigError, match=r"^a window of 0 requests; give"):
        simulate(trace, machine(trace), windows=[0])


SIZES = st.fixed_dictionaries({key: st.integers(1, 4) for key in "abcde"})
SECONDS = st.fixed_dictionaries({key: st.sampled_from([1.0, 2.0, 4.5]) for key in "abcde"})


@settings(deadline=None)
@given(
    st.text("abcde", min_size=1, max_size=60),
    SIZES,
    SECONDS,
    st.integers(4, 10),
    st.sampled_from(list(EVICTIONS)),
)
def test_loads_and_evictions_are_those_of_the_pool(
    asked: str,
    sizes: Mapping[str, int],
    seconds: Mapping[str, float],
    capacity: int,
    policy: EvictionName,
) -> None:
    check_beside_the_pool(asked, sizes, seconds, capacity, policy)


@pytest.mark.parametrize("policy", EVICTIONS)
@pytest.mark.parametrize("capacity", [4, 8, 20])
def test_long_traces_are_run_as_by_the_pool(policy: EvictionName, capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    asked = "".join(rng.choice(list("abcdefgh"), 600))
    sizes = dict(zip("abcdefgh", (1, 2, 3, 4, 1, 2, 3, 4), strict=True))
    seconds = dict(zip("abcdefgh", (1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0), strict=True))
    check_beside_the_pool(asked, sizes, seconds, capacity, policy)


def check_beside_the_pool(
    asked: str,
    sizes: Mapping[str, int],
    seconds: Mapping[str, float],
    capacity: int,
    policy: EvictionName,
) -> None:
    trace = trace_of(asked)
    runs = make_runs(trace, np.ones(len(trace)), np.arange(len(trace)))
    size = column([sizes[name] for name in trace.experts])
    load_s = np.array([seconds[name] for name in trace.experts])
    found = find_loads(runs, size, load_s, capacity, policy)
    victims = names(trace, runs.expert[found.evicted]) if found.evicted else []
    gone = list(zip(found.loaded, victims, strict=True))
    ran = names(trace, runs.expert)
    n_requests = runs.n_requests.tolist()
    assert (found.is_load.tolist(), sorted(gone)) == in_the_pool(
        ran, n_requests, sizes, seconds, capacity, policy
    )


def in_the_pool(
    ran: Sequence[str],
    n_requests: Sequence[int],
    sizes: Mapping[str, int],
    seconds: Mapping[str, float],
    capacity: int,
    policy: EvictionName,
) -> tuple[list[bool], list[tuple[int, str]]]:
    """Which runs load, and who goes for which run, by `place` and an `Evictor`."""
    evictor = Evictor("lru" if policy == "belady" else policy)
    worth: dict[str, float] = {}
    used: dict[str, int] = {}
    is_load: list[bool] = []
    gone: list[tuple[int, str]] = []
    for now, key in enumerate(ran):
        if policy == "belady":
            evictor.foresee(ran[now:])
        is_load.append(key not in worth)
        if key not in worth:
            others = list(worth)
            # Never lower than this: the pool hands runners over before memory is short, where their
            # engines are never wanted again, which costs no load.
            worths = [max(-1e9, evictor.worth(n, worth[n])) for n in others]
            holdings = [
                Holding(i, n, sizes[n], used_at_s=used[n], worth=worths[i])
                for i, n in enumerate(others)
            ]
            placement = place(sizes[key], holdings, budget_bytes=capacity, now_s=float(now))
            assert isinstance(placement, Placement)
            victims = [others[i] for i in (*placement.kill, placement.runner) if i is not None]
            evictor.evict(worth.pop(victim) for victim in victims)
            gone += [(now, victim) for victim in victims]
        for _ in range(n_requests[now]):
            evictor.count(key)
        used[key] = now
        worth[key] = evictor.credit(
            key, at_s=float(now), load_s=seconds[key], held_bytes=sizes[key]
        )
    return is_load, sorted(gone)


@settings(deadline=None)
@given(
    st.text("abcde", min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_figures_of_every_order_add_up(asked: str, memory: int, slots: int, window: int) -> None:
    trace = trace_of(asked)
    found = outcomes(trace, window, memory=str(memory), slots=slots)
    work_s = float(len(asked))
    best = found["grouped", "belady"]
    assert best.loads == len(set(asked))
    for (order, _), outcome in found.items():
        schedule = outcome.schedule
        assert outcome.hit_rate * len(asked) == pytest.approx(len(asked) - outcome.loads)
        assert outcome.load_seconds == 100.0 * outcome.loads
        assert outcome.loads >= best.loads
        assert outcome.loads >= found[order, "belady"].loads
        assert float(np.sum(schedule.end_s - schedule.ready_s)) == pytest.approx(work_s)
        busy_s = outcome.load_seconds + work_s
        assert busy_s / slots - 1e-9 <= outcome.seconds <= busy_s + 1e-9
        for slot in range(slots):
            here = schedule.slot == slot
            assert np.all(schedule.start_s[here][1:] >= schedule.end_s[here][:-1])
        for moment in schedule.ready_s:
            assert np.sum((schedule.start_s <= moment) & (moment < schedule.end_s)) <= memory


def test_where_memory_holds_one_expert_one_slot_takes_as_long_as_several() -> None:
    trace = add_aggregator(make_trace(queries=40, experts=5, distinct=2, seed=1), "inside")
    one, several = outcomes(trace, 8), outcomes(trace, 8, slots=3)
    for key, outcome in one.items():
        assert several[key].seconds == pytest.approx(outcome.seconds)
        assert several[key].schedule.ready_s == pytest.approx(outcome.schedule.ready_s)
