"""Policies of eviction, alone and through the pool's own placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.pool.eviction import EVICTIONS, EvictionName, Evictor, Use
from composer.pool.residency import Holding, Placement, place

NAMES = tuple(EVICTIONS)
TRACES = st.lists(st.sampled_from("abcde"), max_size=40)


@dataclass(frozen=True)
class Engine:
    bytes: int = 1
    load_s: float = 1.0


@dataclass(frozen=True)
class Replay:
    """What the pool's placement and a policy make of a trace."""

    loads: int
    held: tuple[frozenset[str], ...]
    """After each request."""


def replay(
    trace: Sequence[str],
    capacity: int,
    policy: EvictionName,
    *,
    engines: dict[str, Engine] | None = None,
    pinned: str = "",
) -> Replay:
    """Load what is asked and not there; Belady is told the rest of the trace each time."""
    engines = engines or {}
    evictor = Evictor("lru" if policy == "belady" else policy)
    worths: dict[str, float] = {}
    used_at: dict[str, float] = {}
    held: list[frozenset[str]] = []
    loads = 0
    for now, key in enumerate(trace):
        if policy == "belady":
            evictor.foresee(trace[now:])
        engine = engines.get(key, Engine())
        if key not in worths:
            loads += 1
            keys = sorted(worths)
            holdings = [
                Holding(
                    number,
                    other,
                    engines.get(other, Engine()).bytes,
                    is_pinned=other in pinned,
                    used_at_s=used_at[other],
                    worth=evictor.worth(other, worths[other]),
                )
                for number, other in enumerate(keys)
            ]
            placement = place(engine.bytes, holdings, budget_bytes=capacity, now_s=float(now))
            if not isinstance(placement, Placement):
                loads -= 1
                held.append(frozenset(worths))
                continue
            runners = (*placement.kill, placement.runner)
            gone = [keys[number] for number in runners if number is not None]
            evictor.evict(worths[other] for other in gone)
            for other in gone:
                del worths[other]
        evictor.count(key)
        used_at[key] = float(now)
        worths[key] = evictor.credit(
            key, at_s=float(now), load_s=engine.load_s, held_bytes=engine.bytes
        )
        held.append(frozenset(worths))
    return Replay(loads, tuple(held))


def fewest_loads(trace: Sequence[str], capacity: int) -> int:
    """By trying everything."""
    costs: dict[frozenset[str], int] = {frozenset(): 0}
    for key in trace:
        after: dict[frozenset[str], int] = {}
        for held, loads in costs.items():
            others = [held - {gone} for gone in held] if len(held) == capacity else [held]
            nexts = [(held, loads)] if key in held else [(o | {key}, loads + 1) for o in others]
            for state, cost in nexts:
                after[state] = min(cost, after.get(state, cost))
        costs = after
    return min(costs.values())


@settings(deadline=None)
@given(
    TRACES,
    st.fixed_dictionaries({key: st.builds(Engine, st.integers(1, 4)) for key in "abcde"}),
    st.integers(1, 9),
    st.sampled_from(NAMES),
)
def test_memory_is_never_exceeded_and_the_pinned_stay(
    trace: list[str], engines: dict[str, Engine], capacity: int, policy: EvictionName
) -> None:
    found = replay(trace, capacity, policy, engines=engines, pinned="ab")
    for before, after in zip((frozenset[str](), *found.held), found.held, strict=False):
        assert sum(engines[key].bytes for key in after) <= capacity
        assert before & {"a", "b"} <= after


@settings(deadline=None)
@given(TRACES, st.integers(1, 5))
def test_of_equal_sizes_no_order_of_eviction_needs_fewer_loads_than_belady(
    trace: list[str], capacity: int
) -> None:
    loads = {policy: replay(trace, capacity, policy).loads for policy in NAMES}
    assert loads["belady"] == min(loads.values()) == fewest_loads(trace, capacity)


@settings(deadline=None)
@given(TRACES, st.integers(1, 5))
def test_lru_holds_the_most_recent(trace: list[str], capacity: int) -> None:
    found = replay(trace, capacity, "lru")
    for n, held in enumerate(found.held, 1):
        recent = list(dict.fromkeys(reversed(trace[:n])))
        assert held == set(recent[:capacity])


@settings(deadline=None)
@given(TRACES, st.integers(1, 5))
def test_of_equal_costs_and_sizes_greedy_dual_is_lru(trace: list[str], capacity: int) -> None:
    assert replay(trace, capacity, "greedy-dual") == replay(trace, capacity, "lru")


def test_lfu_keeps_who_was_asked_most_even_long_ago() -> None:
    assert replay("aaaabcbcb", 2, "lfu").held[-1] == {"a", "b"}


def test_lfu_remembers_who_went() -> None:
    found = replay("aabbbcaa", 2, "lfu")
    assert found.held[5] == {"b", "c"}
    assert replay("aabbbcaac", 2, "lfu").held[-1] == {"a", "c"}


def test_of_equal_counts_lfu_lets_the_least_recent_go() -> None:
    assert replay("abc", 2, "lfu").held[-1] == {"b", "c"}


def test_greedy_dual_keeps_the_costly_one_and_lets_it_go_in_the_end() -> None:
    engines = {"a": Engine(load_s=3.5)}
    held = replay("abcbcbcbc", 2, "greedy-dual", engines=engines).held
    assert [("a" in each) for each in held] == [True] * 5 + [False] * 4


def test_greedy_dual_counts_seconds_for_each_byte() -> None:
    engines = {"a": Engine(bytes=4, load_s=3.0), "b": Engine(bytes=1, load_s=1.0)}
    assert replay("bac", 5, "greedy-dual", engines=engines).held[-1] == {"b", "c"}


def test_belady_lets_go_of_who_is_never_wanted_again_before_who_is_wanted_late() -> None:
    assert replay("abcbbba", 2, "belady").held[2] == {"b", "c"}
    assert replay("abcab", 2, "belady").held[2] == {"a", "c"}


def test_only_the_next_use_counts_where_an_engine_is_foreseen_twice() -> None:
    evictor = Evictor("lru")
    evictor.foresee(["a", "b", "a"])
    assert evictor.worth("a", 0.0) > evictor.worth("b", 0.0) > evictor.worth("c", 0.0) == -inf


def test_once_nothing_is_foreseen_the_policy_decides_again() -> None:
    evictor = Evictor("lru")
    evictor.foresee(["a"])
    evictor.foresee([])
    assert evictor.worth("a", 7.0) == 7.0


def test_an_engine_that_takes_no_memory_has_a_worth() -> None:
    assert Evictor("greedy-dual").credit("a", at_s=0.0, load_s=2.0, held_bytes=0) == 2.0


@pytest.mark.parametrize("field", ["at", "uses", "load_s", "next_use"])
@pytest.mark.parametrize("name", NAMES)
def test_each_policy_looks_at_its_own_figure(name: EvictionName, field: str) -> None:
    figures = {"at": 1.0, "uses": 1.0, "load_s": 1.0, "bytes": 1.0, "next_use": 1.0}
    worth = EVICTIONS[name].worth
    more = worth(Use[float](**(figures | {field: 2.0}))) - worth(Use[float](**figures))
    own = {"lru": "at", "lfu": "uses", "greedy-dual": "load_s", "belady": "next_use"}[name]
    assert more == (0.0 if field != own else -1.0 if name == "belady" else 1.0)
