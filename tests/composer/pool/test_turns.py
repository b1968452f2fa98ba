import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from composer.pool.turns import EngineView, Turn, next_turns


@st.composite
def views(draw: st.DrawFn) -> list[EngineView]:
    """Up to six engines in any state; a blocked one is down and not busy."""
    made: list[EngineView] = []
    for number in range(draw(st.integers(0, 6))):
        is_up, is_busy = draw(st.booleans()), draw(st.booleans())
        made.append(
            EngineView(
                f"engine-{number}",
                is_local=draw(st.booleans()),
                is_up=is_up,
                is_busy=is_busy,
                is_blocked=not is_up and not is_busy and draw(st.booleans()),
                oldest_s=draw(st.none() | st.integers(0, 5).map(float)),
            )
        )
    return made


def waiting(key: str, oldest_s: float, *, is_up: bool = True, is_busy: bool = False) -> EngineView:
    """A local engine that somebody waits for."""
    return EngineView(key, is_local=True, is_up=is_up, is_busy=is_busy, oldest_s=oldest_s)


@settings(deadline=None, max_examples=300)
@given(views(), st.integers(1, 3))
def test_no_more_local_engines_are_busy_than_may_be(
    engines: list[EngineView], busy_engines: int
) -> None:
    turns = {turn.key for turn in next_turns(engines, busy_engines)}
    before = sum(e.is_local and e.is_busy for e in engines)
    after = sum(e.is_local and (e.is_busy or e.key in turns) for e in engines)
    assert after <= max(before, busy_engines)


@settings(deadline=None, max_examples=300)
@given(views(), st.integers(1, 3))
def test_each_engine_has_at_most_one_turn_and_only_one_that_it_can_use(
    engines: list[EngineView], busy_engines: int
) -> None:
    by_key = {e.key: e for e in engines}
    turns = next_turns(engines, busy_engines)
    assert len({turn.key for turn in turns}) == len(turns)
    for turn in turns:
        engine = by_key[turn.key]
        assert engine.oldest_s is not None
        assert not engine.is_blocked
        assert turn.action == ("run" if engine.is_up else "load")
        assert engine.is_up or not engine.is_busy
    ages = [by_key[turn.key].oldest_s or 0.0 for turn in turns]
    assert ages == sorted(ages)


@settings(deadline=None, max_examples=300)
@given(views(), st.integers(1, 3))
def test_engines_that_compute_elsewhere_never_wait(
    engines: list[EngineView], busy_engines: int
) -> None:
    turns = {turn.key for turn in next_turns(engines, busy_engines)}
    for engine in engines:
        can_start = engine.is_up or not (engine.is_busy or engine.is_blocked)
        if not engine.is_local and engine.oldest_s is not None and can_start:
            assert engine.key in turns


@settings(deadline=None, max_examples=300)
@given(views(), st.integers(1, 3))
def test_a_busy_engine_takes_in_nothing_while_an_older_one_waits_for_a_core_or_for_memory(
    engines: list[EngineView], busy_engines: int
) -> None:
    turns = {turn.key for turn in next_turns(engines, busy_engines)}
    for older in engines:
        waits = older.is_local and not older.is_busy
        if not waits or older.oldest_s is None or older.key in turns:
            continue
        for engine in engines:
            may_not = engine.is_busy or not older.is_blocked
            if may_not and engine.is_local and engine.oldest_s is not None and engine.key in turns:
                assert engine.oldest_s <= older.oldest_s


@settings(deadline=None, max_examples=300)
@given(views(), st.integers(1, 3))
def test_no_core_stays_free_while_an_engine_could_use_it(
    engines: list[EngineView], busy_engines: int
) -> None:
    turns = {turn.key for turn in next_turns(engines, busy_engines)}
    busy = sum(e.is_local and (e.is_busy or e.key in turns) for e in engines)
    for engine in engines:
        usable = engine.is_local and not engine.is_busy and not engine.is_blocked
        if usable and engine.oldest_s is not None and engine.key not in turns:
            assert busy >= busy_engines


@settings(deadline=None)
@given(views(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_order_in_which_engines_are_listed_does_not_matter(
    engines: list[EngineView], busy_engines: int, rng: random.Random
) -> None:
    shuffled = rng.sample(engines, len(engines))
    assert next_turns(shuffled, busy_engines) == next_turns(engines, busy_engines)


def test_who_waits_longest_comes_first() -> None:
    engines = [waiting("young", 2.0), waiting("old", 1.0, is_up=False)]
    assert next_turns(engines, 1) == [Turn("old", "load")]
    assert next_turns(engines, 2) == [Turn("old", "load"), Turn("young", "run")]


def test_a_busy_engine_takes_in_new_requests_while_nobody_older_waits() -> None:
    busy = waiting("busy", 1.0, is_busy=True)
    assert next_turns([busy], 1) == [Turn("busy", "run")]
    assert next_turns([busy, waiting("younger", 2.0)], 1) == [Turn("busy", "run")]
    assert next_turns([busy, waiting("older", 0.0)], 1) == []


def test_a_loading_engine_takes_in_nothing_yet() -> None:
    assert next_turns([waiting("loading", 1.0, is_up=False, is_busy=True)], 1) == []


def test_a_blocked_engine_is_skipped() -> None:
    blocked = replace(waiting("blocked", 0.0, is_up=False), is_blocked=True)
    assert next_turns([blocked, waiting("other", 1.0)], 1) == [Turn("other", "run")]
