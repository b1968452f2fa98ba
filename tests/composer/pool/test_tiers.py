from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from composer.pool.residency import Refusal, Wait
from composer.pool.tiers import Level, OnGpu, Room, make_room

GPU = 12
NOW_S = 100.0
LEVELS: tuple[Level, ...] = (0, 0, 1, 2)


@st.composite
def engines_on_gpus(draw: st.DrawFn) -> list[OnGpu]:
    """Up to six engines, awake or asleep; what is awake may exceed the GPU."""
    return [
        OnGpu(
            number,
            draw(st.integers(0, 6)),
            draw(st.none() | st.integers(0, 4)),
            level=draw(st.sampled_from(LEVELS)),
            is_busy=draw(st.booleans()),
            is_pinned=draw(st.integers(0, 3)) == 0,
            loaded_at_s=draw(st.sampled_from([0.0, 80.0, 99.0])),
            used_at_s=draw(st.sampled_from([0.0, 50.0])),
            worth=draw(st.sampled_from([0.0, 1.0, 2.0])),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


needs = st.integers(0, 14)
minimum_times = st.sampled_from([0.0, 10.0, 30.0])


def wake(
    need: int, engines: Sequence[OnGpu], host_free: int = 0, min_loaded_s: float = 0.0
) -> Room | Wait | Refusal:
    return make_room(
        need,
        engines,
        gpu_bytes=GPU,
        host_free_bytes=host_free,
        now_s=NOW_S,
        min_loaded_s=min_loaded_s,
    )


def awake(number: int, size: int = 4, asleep: int | None = 3, worth: float = 0.0) -> OnGpu:
    return OnGpu(number, size, asleep, worth=worth)


def asleep(number: int, size: int = 3, worth: float = 0.0) -> OnGpu:
    return OnGpu(number, 4, size, level=1, worth=worth)


def rank(engine: OnGpu) -> tuple[float, float, int]:
    return engine.worth, engine.used_at_s, engine.runner


def leaves(room: Room) -> set[int]:
    return {*room.end, *(runner for runner, _ in room.sleep)}


def slept(room: Room, level: Level) -> set[int]:
    return {runner for runner, each in room.sleep if each == level}


def gpu_held(engines: Sequence[OnGpu], but: set[int]) -> int:
    return sum(e.gpu_bytes for e in engines if not e.level and e.runner not in but)


def host_held(engines: Sequence[OnGpu], runners: set[int]) -> int:
    return sum(e.asleep_bytes or 0 for e in engines if e.runner in runners)


@given(needs, engines_on_gpus(), st.integers(0, 8), minimum_times)
def test_what_is_awake_afterwards_fits_the_gpu_and_what_sleeps_the_memory_that_was_free(
    need: int, engines: list[OnGpu], host_free: int, min_loaded_s: float
) -> None:
    room = wake(need, engines, host_free, min_loaded_s)
    if isinstance(room, Room):
        assert gpu_held(engines, leaves(room)) + need <= GPU
        let_go = {e.runner for e in engines if e.level == 1} & set(room.end)
        assert host_held(engines, slept(room, 1)) <= host_free + host_held(engines, let_go)


@given(needs, engines_on_gpus(), st.integers(0, 8), minimum_times)
def test_who_leaves_is_idle_unpinned_and_awake_for_long_enough_or_asleep(
    need: int, engines: list[OnGpu], host_free: int, min_loaded_s: float
) -> None:
    room = wake(need, engines, host_free, min_loaded_s)
    if isinstance(room, Room):
        assert len(leaves(room)) == len(room.end) + len(room.sleep)
        for engine in engines:
            if engine.runner in leaves(room):
                assert not engine.is_busy
                assert not engine.is_pinned
                assert engine.level == 1 or engine.loaded_at_s + min_loaded_s <= NOW_S
                assert not (engine.level and engine.runner in dict(room.sleep))


@given(needs, engines_on_gpus(), st.integers(0, 8))
def test_nobody_leaves_if_there_is_room(need: int, engines: list[OnGpu], host_free: int) -> None:
    pinned = sum(e.gpu_bytes for e in engines if e.is_pinned and not e.level)
    if gpu_held(engines, set()) + need <= GPU:
        assert wake(need, engines, host_free) == Room()
    elif pinned + need <= GPU:
        assert wake(need, engines, host_free) != Room()


@given(needs, engines_on_gpus(), st.integers(0, 8), minimum_times)
def test_those_worth_least_leave_the_gpu_and_no_more_of_them_than_have_to(
    need: int, engines: list[OnGpu], host_free: int, min_loaded_s: float
) -> None:
    room = wake(need, engines, host_free, min_loaded_s)
    if isinstance(room, Room):
        movable = [
            e
            for e in engines
            if not (e.level or e.is_busy or e.is_pinned) and e.loaded_at_s + min_loaded_s <= NOW_S
        ]
        gone = [e for e in sorted(movable, key=rank) if e.runner in leaves(room)]
        assert gone == sorted(movable, key=rank)[: len(gone)]
        if gone:
            kept = leaves(room) - {gone[-1].runner}
            assert gpu_held(engines, kept) + need > GPU


@given(needs, engines_on_gpus(), st.integers(0, 8))
def test_of_those_that_leave_the_weights_of_those_worth_most_are_kept(
    need: int, engines: list[OnGpu], host_free: int
) -> None:
    room = wake(need, engines, host_free)
    if isinstance(room, Room):
        by_runner = {e.runner: e for e in engines}
        may_go = [e for e in engines if e.level == 1 and not e.is_busy and not e.is_pinned]
        for number, level in room.sleep:
            mine = by_runner[number]
            assert mine.asleep_bytes is not None
            before = {n for n in slept(room, 1) if rank(by_runner[n]) > rank(mine)}
            free = host_free - host_held(engines, before)
            free += host_held(
                engines,
                {e.runner for e in may_go if e.runner in room.end or rank(e) < rank(mine)},
            )
            assert (level == 1) == (mine.asleep_bytes <= free)


@given(needs, engines_on_gpus(), st.integers(0, 8))
def test_sleepers_end_only_for_engines_worth_more_and_those_worth_least_first(
    need: int, engines: list[OnGpu], host_free: int
) -> None:
    room = wake(need, engines, host_free)
    if isinstance(room, Room):
        may_go = sorted(
            (e for e in engines if e.level == 1 and not e.is_busy and not e.is_pinned), key=rank
        )
        ended = [e for e in may_go if e.runner in room.end]
        assert ended == may_go[: len(ended)]
        kept = [e for e in engines if e.runner in slept(room, 1)]
        assert all(rank(e) < max(map(rank, kept)) for e in ended) if kept else not ended


@given(needs, engines_on_gpus(), st.integers(0, 8))
def test_one_that_cannot_sleep_is_ended(need: int, engines: list[OnGpu], host_free: int) -> None:
    room = wake(need, engines, host_free)
    if isinstance(room, Room):
        for engine in engines:
            if engine.level == 0 and engine.runner in leaves(room):
                assert (engine.runner in room.end) == (engine.asleep_bytes is None)


@given(needs, engines_on_gpus(), st.integers(0, 8), minimum_times)
def test_it_is_refused_exactly_when_those_that_are_pinned_leave_too_little(
    need: int, engines: list[OnGpu], host_free: int, min_loaded_s: float
) -> None:
    left = GPU - sum(e.gpu_bytes for e in engines if e.is_pinned and not e.level)
    room = wake(need, engines, host_free, min_loaded_s)
    if need > left:
        assert room == Refusal(need, left)
    else:
        assert not isinstance(room, Refusal)


@given(needs, engines_on_gpus(), minimum_times)
def test_to_wait_is_said_only_while_the_idle_ones_cannot_make_room_and_until_one_more_may(
    need: int, engines: list[OnGpu], min_loaded_s: float
) -> None:
    waited = wake(need, engines, min_loaded_s=min_loaded_s)
    if isinstance(waited, Wait):
        idle = [e for e in engines if not (e.level or e.is_busy or e.is_pinned)]
        ends = {e.runner: e.loaded_at_s + min_loaded_s for e in idle}
        old = {runner for runner, end_s in ends.items() if end_s <= NOW_S}
        assert gpu_held(engines, old) + need > GPU
        assert waited.until_s == min(set(ends.values()) - {*map(ends.get, old)}, default=None)


def test_the_one_that_is_worth_least_goes_to_sleep() -> None:
    engines = [awake(1, worth=2.0), awake(2, worth=1.0), awake(3, worth=3.0)]
    assert wake(4, engines, host_free=9) == Room(sleep=((2, 1),))


def test_of_equals_the_one_that_was_used_least_recently_goes_to_sleep() -> None:
    engines = [replace(awake(n), used_at_s=at_s) for n, at_s in ((1, 9.0), (2, 8.0), (3, 10.0))]
    assert wake(4, engines, host_free=9) == Room(sleep=((2, 1),))


def test_two_go_to_sleep_where_one_is_not_enough() -> None:
    assert wake(8, [awake(1), awake(2), awake(3)], host_free=6) == Room(sleep=((1, 1), (2, 1)))


def test_one_whose_weights_find_no_memory_sleeps_without_them() -> None:
    assert wake(4, [awake(1), awake(2), awake(3)], host_free=2) == Room(sleep=((1, 2),))


def test_memory_for_one_is_for_the_one_that_is_worth_more() -> None:
    engines = [awake(1, worth=1.0), awake(2, worth=2.0), awake(3, worth=3.0)]
    assert wake(8, engines, host_free=3) == Room(sleep=((1, 2), (2, 1)))


def test_one_that_sleeps_is_ended_for_one_that_is_worth_more_only() -> None:
    busy = replace(awake(3, 8), is_busy=True)
    below, above = asleep(1, worth=1.0), asleep(1, worth=3.0)
    leaving = awake(2, worth=2.0)
    assert wake(4, [busy, leaving, below]) == Room(sleep=((2, 1),), end=(1,))
    assert wake(4, [busy, leaving, above]) == Room(sleep=((2, 2),))


def test_one_that_sleeps_is_not_ended_while_it_is_busy_or_if_it_is_pinned() -> None:
    busy, leaving = replace(awake(3, 8), is_busy=True), awake(2, worth=2.0)
    for state in ({"is_busy": True}, {"is_pinned": True}):
        below = replace(asleep(1, worth=1.0), **state)
        assert wake(4, [busy, leaving, below]) == Room(sleep=((2, 2),))


def test_nobody_that_sleeps_is_ended_if_that_is_not_enough() -> None:
    leaving, little = awake(2, 12, asleep=9, worth=2.0), asleep(1, 2, worth=1.0)
    assert wake(4, [leaving, little], host_free=3) == Room(sleep=((2, 2),))


def test_an_engine_that_sleeps_takes_nothing_of_the_gpu() -> None:
    assert wake(12, [asleep(1), replace(asleep(2), level=2)]) == Room()


def test_one_that_cannot_sleep_makes_room_as_well() -> None:
    assert wake(8, [awake(1, 12, asleep=None)], host_free=9) == Room(end=(1,))


def test_while_all_are_busy_it_waits_for_one_to_fall_idle() -> None:
    assert wake(4, [replace(awake(1, 12), is_busy=True)]) == Wait(None)


def test_while_all_are_too_young_it_waits_for_the_oldest_of_them() -> None:
    young = [replace(awake(n, 6), loaded_at_s=at_s) for n, at_s in ((1, 95.0), (2, 93.0))]
    assert wake(6, young, min_loaded_s=10.0) == Wait(103.0)
