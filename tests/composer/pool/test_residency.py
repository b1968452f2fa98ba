from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from composer.pool.residency import (
    NEVER,
    Holding,
    Placement,
    Refusal,
    Wait,
    keeps_process,
    place,
)

BUDGET = 12
NOW_S = 100.0


@st.composite
def fleets(draw: st.DrawFn) -> list[Holding]:
    """Up to six runners; a warm one is never pinned. What they hold may exceed the budget."""
    return [
        Holding(
            number,
            draw(st.sampled_from([None, f"engine-{number}"])),
            draw(st.integers(0, 6)),
            is_busy=draw(st.booleans()),
            loaded_at_s=draw(st.floats(0, NOW_S)),
            used_at_s=draw(st.floats(0, NOW_S)),
            worth=draw(st.sampled_from([NEVER, 0.0, 1.0, 2.0])),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@st.composite
def pinned_fleets(draw: st.DrawFn) -> list[Holding]:
    return [
        replace(h, is_pinned=h.engine is not None and draw(st.booleans())) for h in draw(fleets())
    ]


def ended_or_emptied(placement: Placement) -> set[int]:
    return {*placement.kill, *([placement.runner] if placement.runner is not None else [])}


def loaded(number: int, size: int = 4, used_at_s: float = 0.0) -> Holding:
    return Holding(number, f"engine-{number}", size, loaded_at_s=used_at_s, used_at_s=used_at_s)


def put(need: int, holdings: Sequence[Holding], min_loaded_s: float = 0.0) -> object:
    return place(need, holdings, budget_bytes=BUDGET, now_s=NOW_S, min_loaded_s=min_loaded_s)


@settings(deadline=None, max_examples=300)
@given(pinned_fleets(), st.integers(0, 14), st.sampled_from([0.0, 30.0, 200.0]))
def test_whatever_is_decided_keeps_the_promises(
    holdings: list[Holding], need: int, min_loaded_s: float
) -> None:
    by_number = {h.runner: h for h in holdings}
    beside_pinned = BUDGET - sum(h.bytes for h in holdings if h.is_pinned)
    young = {
        h.runner for h in holdings if h.engine is not None and h.loaded_at_s + min_loaded_s > NOW_S
    }
    decision = put(need, holdings, min_loaded_s)
    assert isinstance(decision, Refusal) == (need > beside_pinned)
    match decision:
        case Placement(how, runner, kill):
            gone = ended_or_emptied(decision)
            left = sum(h.bytes for h in holdings if h.runner not in gone)
            assert left + need <= BUDGET
            assert runner not in kill
            assert not any(by_number[g].is_busy or by_number[g].is_pinned for g in gone)
            assert not gone & young
            assert (how == "fresh") == (runner is None)
            if runner is not None:
                assert (how == "warm") == (by_number[runner].engine is None)
            victims = {g for g in gone if by_number[g].engine is not None}
            movable = sorted(
                (
                    h
                    for h in holdings
                    if h.engine is not None and not (h.is_busy or h.is_pinned or h.runner in young)
                ),
                key=lambda h: (h.worth, h.used_at_s, h.runner),
            )
            assert victims == {h.runner for h in movable[: len(victims)]}
        case Refusal(need_bytes, budget_bytes):
            assert (need_bytes, budget_bytes) == (need, beside_pinned)
        case Wait(until_s):
            waiting = [h for h in holdings if not (h.is_busy or h.is_pinned) and h.runner in young]
            ends = [h.loaded_at_s + min_loaded_s for h in waiting]
            assert until_s == min(ends, default=None)
            assert ends or any(h.is_busy for h in holdings)
        case _:
            raise AssertionError(decision)


@settings(deadline=None)
@given(fleets(), st.integers(0, BUDGET))
def test_with_everyone_idle_and_old_whatever_fits_the_budget_is_placed(
    holdings: list[Holding], need: int
) -> None:
    assert isinstance(put(need, [replace(h, is_busy=False) for h in holdings]), Placement)


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_who_waited_until_it_was_told_to_is_placed(loaded_at_s: float, min_s: float) -> None:
    holdings = [Holding(1, "old", BUDGET, loaded_at_s=loaded_at_s, used_at_s=loaded_at_s)]

    def at(now_s: float) -> object:
        return place(1, holdings, budget_bytes=BUDGET, now_s=now_s, min_loaded_s=min_s)

    first = at(loaded_at_s)
    now_s = first.until_s if isinstance(first, Wait) else loaded_at_s
    assert now_s is not None
    assert isinstance(at(now_s), Placement)


def test_with_room_to_spare_a_new_runner_is_started() -> None:
    assert put(4, [loaded(1), loaded(2)]) == Placement("fresh", None)


def test_a_runner_whose_engine_is_never_wanted_again_is_used_before_a_new_one_is_started() -> None:
    done_with = replace(loaded(1), worth=NEVER)
    assert put(4, [done_with, loaded(2)]) == Placement("reused", 1)
    assert put(4, [replace(done_with, is_busy=True), loaded(2)]) == Placement("fresh", None)


def test_a_warm_runner_is_taken_before_anybody_is_emptied() -> None:
    assert put(8, [loaded(1), Holding(2, None, 1)]) == Placement("warm", 2)


def test_the_smallest_warm_runner_is_taken() -> None:
    assert put(4, [Holding(1, None, 2), Holding(2, None, 1)]) == Placement("warm", 2)


def test_the_first_victim_is_reused_and_the_others_are_killed() -> None:
    holdings = [loaded(1, used_at_s=3.0), loaded(2, used_at_s=1.0), loaded(3, used_at_s=2.0)]
    assert put(8, holdings) == Placement("reused", 2, kill=(3,))


def test_who_is_worth_least_goes_first_whenever_it_was_used() -> None:
    holdings = [replace(loaded(1, 6, used_at_s=1.0), worth=2.0), loaded(2, 6, used_at_s=2.0)]
    assert put(6, holdings) == Placement("reused", 2)


def test_a_warm_runner_goes_before_a_second_engine_does() -> None:
    holdings = [loaded(1, 5, used_at_s=1.0), loaded(2, 5, used_at_s=2.0), Holding(3, None, 2)]
    assert put(7, holdings) == Placement("reused", 1, kill=(3,))


def test_warm_runners_alone_make_room_for_one_of_them() -> None:
    busy = replace(loaded(1, 8), is_busy=True)
    holdings = [busy, Holding(2, None, 1), Holding(3, None, 2)]
    assert put(4, holdings) == Placement("warm", 3, kill=(2,))


def test_who_finds_only_busy_runners_waits_for_one_to_fall_idle() -> None:
    assert put(8, [replace(loaded(1, 8), is_busy=True)]) == Wait(None)


def test_who_finds_only_young_engines_waits_for_the_first_to_grow_old() -> None:
    holdings = [loaded(1, 6, used_at_s=90.0), loaded(2, 6, used_at_s=80.0)]
    assert put(6, holdings, min_loaded_s=30.0) == Wait(110.0)


@settings(deadline=None)
@given(*[st.integers(0, 20)] * 4)
def test_a_process_is_kept_exactly_when_what_it_left_behind_still_fits(
    left: int, need: int, base: int, free: int
) -> None:
    holds_after_load = left + (need - base)
    assert keeps_process(left, need, base, free) == (holds_after_load <= free)
