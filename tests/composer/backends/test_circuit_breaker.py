from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.backends.circuit_breaker import CircuitBreaker, Permit


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(max_failures=3, cool_down_s=30.0, now=clock)


def admitted(breaker: CircuitBreaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.settle(admitted(breaker), is_up=False)


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
    assert breaker.admit() is None
    assert breaker.wait_s == 30.0


def test_a_success_in_between_starts_the_count_anew(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.settle(admitted(breaker), is_up=True)
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_after_the_cool_down_one_probe_may_pass(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.time_s += 29.9
    assert breaker.admit() is None
    clock.time_s += 0.1
    admitted(breaker)
    assert breaker.state == "half_open"
    assert breaker.admit() is None


def test_a_probe_that_succeeds_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.time_s += 30
    breaker.settle(admitted(breaker), is_up=True)
    assert breaker.state == "closed"
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_a_probe_that_fails_opens_it_for_another_cool_down(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.time_s += 40
    fail(breaker)
    assert breaker.state == "open"
    assert breaker.wait_s == 30.0


def test_a_withdrawn_probe_leaves_room_for_the_next(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.time_s += 30
    breaker.settle(admitted(breaker), is_up=None)
    assert breaker.wait_s == 0.0
    admitted(breaker)


def test_calls_begun_before_it_opened_are_not_counted(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    slow = [admitted(breaker) for _ in range(3)]
    fail(breaker, 3)
    clock.time_s += 20
    breaker.settle(slow[0], is_up=False)
    assert breaker.wait_s == 10.0
    breaker.settle(slow[1], is_up=True)
    assert breaker.state == "open"
    clock.time_s += 10
    admitted(breaker)
    breaker.settle(slow[2], is_up=True)
    assert breaker.state == "half_open"


@given(st.lists(st.sampled_from(["call", "up", "down", "withdrawn", "wait"]), max_size=60))
def test_it_never_passes_two_probes_nor_any_call_while_it_cools_down(events: list[str]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(max_failures=2, cool_down_s=10.0, now=clock)
    under_way: list[Permit] = []
    for event in events:
        if event == "wait":
            clock.time_s += 4.0
        elif event == "call":
            before, wait_s = breaker.state, breaker.wait_s
            permit = breaker.admit()
            assert (permit is None) == (before == "half_open" or wait_s > 0)
            if permit is not None:
                under_way.append(permit)
        elif under_way:
            outcomes = {"up": True, "down": False, "withdrawn": None}
            breaker.settle(under_way.pop(0), is_up=outcomes[event])
    clock.time_s += 10.0
    if breaker.state == "open":
        admitted(breaker)
