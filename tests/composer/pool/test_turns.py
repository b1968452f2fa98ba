import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from composer.pool.turns import EngineView, Turn, next_turns

MACHINES = ("here", "left", "right")
ALONE = {"here": 1}

slots_of_machines = st.fixed_dictionaries({name: st.integers(1, 2) for name in MACHINES})


@st.composite
def views(draw: st.DrawFn) -> list[EngineView]:
    """Up to six engines in any state; a blocked one is down and not busy.

    One that is up is on a machine, which may have left; one that is not may be loaded on some.
    """
    made: list[EngineView] = []
    for number in range(draw(st.integers(0, 6))):
        is_local, is_up, is_busy = draw(st.tuples(*[st.booleans()] * 3))
        on = draw(st.sampled_from([*MACHINES, "gone"]))
        anywhere = draw(st.sampled_from([(), ("here",), MACHINES[1:], MACHINES]))
        made.append(
            EngineView(
                f"engine-{number}",
                is_local=is_local,
                is_up=is_up,
                is_busy=is_busy,
                is_blocked=not is_up and not is_busy and draw(st.booleans()),
                oldest_s=draw(st.none() | st.integers(0, 5).map(float)),
                nodes=() if not is_local else (on,) if is_up else anywhere,
                is_wanted=draw(st.booleans()),
            )
        )
    return made


def waiting(
    key: str, oldest_s: float | None, *nodes: str, is_up: bool = True, is_busy: bool = False
) -> EngineView:
    """A local engine, and since when somebody waits for it; on this machine unless told where."""
    on = nodes or ("here",)
    return EngineView(key, True, is_up, is_busy, oldest_s=oldest_s, nodes=on)


def wanted(key: str, *nodes: str) -> EngineView:
    """A local engine that is to be loaded although nobody waits for it yet."""
    return replace(waiting(key, None, *nodes, is_up=False), is_wanted=True)


def most_busy(engines: Sequence[EngineView], turns: Sequence[Turn], only: Set[str]) -> int:
    """Local engines that are busy, after these turns, on these machines and no others."""
    begun = {turn.key for turn in turns if not turn.is_ahead}
    return sum(
        e.is_local and bool(e.nodes) and (e.is_busy or e.key in begun) and only >= set(e.nodes)
        for e in engines
    )


@given(views(), slots_of_machines, st.booleans())
def test_no_more_engines_are_busy_on_a_machine_than_it_has_slots_or_had_before(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    turns = next_turns(engines, slots, load_ahead=load_ahead)
    for name in MACHINES:
        before = most_busy(engines, (), {name})
        assert most_busy(engines, turns, {name}) <= max(before, slots[name])


@given(views(), slots_of_machines, st.booleans())
def test_machines_together_have_a_slot_for_each_engine_wherever_it_is_loaded(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    turns = next_turns(engines, slots, load_ahead=load_ahead)
    groups = [set(group) for n in (1, 2, 3) for group in combinations(MACHINES, n)]
    room = [sum(slots[name] for name in group) for group in groups]
    before = [most_busy(engines, (), group) for group in groups]
    if all(busy <= n for busy, n in zip(before, room, strict=True)):
        after = [most_busy(engines, turns, group) for group in groups]
        assert all(busy <= n for busy, n in zip(after, room, strict=True))


@given(views(), slots_of_machines, st.booleans())
def test_each_engine_has_at_most_one_turn_and_only_one_that_it_can_use(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    by_key = {e.key: e for e in engines}
    turns = next_turns(engines, slots, load_ahead=load_ahead)
    assert len({turn.key for turn in turns}) == len(turns)
    for turn in turns:
        engine = by_key[turn.key]
        assert engine.oldest_s is not None or (engine.is_wanted and turn.action == "load")
        assert engine.is_up or not engine.is_blocked
        assert turn.action == ("run" if engine.is_up else "load")
        assert engine.is_up or not engine.is_busy
    ages = [(by_key[t.key].oldest_s is None, by_key[t.key].oldest_s or 0.0) for t in turns]
    assert ages == sorted(ages)


@given(views(), slots_of_machines, st.booleans())
def test_engines_that_compute_elsewhere_never_wait(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    turns = {turn.key for turn in next_turns(engines, slots, load_ahead=load_ahead)}
    for engine in engines:
        can_start = engine.is_up or not (engine.is_busy or engine.is_blocked)
        if not engine.is_local and engine.oldest_s is not None and can_start:
            assert engine.key in turns


@given(views(), slots_of_machines)
def test_a_busy_engine_takes_in_nothing_while_an_older_one_waits_for_its_machine_or_for_memory(
    engines: list[EngineView], slots: Mapping[str, int]
) -> None:
    turns = {turn.key for turn in next_turns(engines, slots)}
    for older in engines:
        waits = older.is_local and not older.is_busy
        if not waits or older.oldest_s is None or older.key in turns:
            continue
        for engine in engines:
            may_not = engine.is_busy or not older.is_blocked
            is_rival = engine.is_local and set(engine.nodes) <= set(older.nodes)
            if may_not and is_rival and engine.oldest_s is not None and engine.key in turns:
                assert engine.oldest_s <= older.oldest_s


@given(views(), slots_of_machines, st.booleans())
def test_a_busy_engine_goes_on_unless_somebody_older_waits_for_its_machine(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    turns = {turn.key for turn in next_turns(engines, slots, load_ahead=load_ahead)}
    for engine in engines:
        if engine.is_up and engine.is_busy and engine.oldest_s is not None:
            rivals = [
                e
                for e in engines
                if e.is_local
                and not e.is_busy
                and e.oldest_s is not None
                and (e.oldest_s, e.key) < (engine.oldest_s, engine.key)
                and not set(e.nodes).isdisjoint(engine.nodes)
            ]
            assert engine.key in turns or rivals


@given(views(), slots_of_machines, st.booleans())
def test_no_slot_stays_free_while_an_engine_could_use_it(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    turns = {turn.key for turn in next_turns(engines, slots, load_ahead=load_ahead)}
    for engine in engines:
        usable = engine.is_local and not engine.is_busy and not engine.is_blocked
        if usable and engine.oldest_s is not None and engine.key not in turns:
            mine = set(engine.nodes)
            rivals = [e for e in engines if e.is_local and not mine.isdisjoint(e.nodes)]
            busy = sum(e.is_busy or e.key in turns for e in rivals)
            assert busy >= sum(slots.get(name, 0) for name in mine)


@given(views(), slots_of_machines)
def test_at_most_one_engine_is_loaded_ahead_and_none_while_another_loads(
    engines: list[EngineView], slots: Mapping[str, int]
) -> None:
    assert not any(turn.is_ahead for turn in next_turns(engines, slots))
    turns = next_turns(engines, slots, load_ahead=True)
    ahead = [turn for turn in turns if turn.is_ahead]
    assert [turn.action for turn in ahead] in ([], ["load"])
    if any(e.is_local and e.is_busy and not e.is_up for e in engines):
        assert not ahead


@given(views(), slots_of_machines)
def test_to_load_ahead_takes_no_turn_away(
    engines: list[EngineView], slots: Mapping[str, int]
) -> None:
    turns = next_turns(engines, slots, load_ahead=True)
    assert [turn for turn in turns if not turn.is_ahead] == next_turns(engines, slots)


@given(views(), slots_of_machines, st.booleans())
def test_what_is_wanted_takes_nothing_from_what_is_waited_for(
    engines: list[EngineView], slots: Mapping[str, int], load_ahead: bool
) -> None:
    waited_for = {e.key for e in engines if e.oldest_s is not None}
    nothing_wanted = [replace(e, is_wanted=False) for e in engines]
    turns = next_turns(engines, slots, load_ahead=load_ahead)
    assert [turn for turn in turns if turn.key in waited_for] == next_turns(
        nothing_wanted, slots, load_ahead=load_ahead
    )


@given(views(), slots_of_machines, st.randoms(use_true_random=False))
def test_the_order_in_which_engines_are_listed_does_not_matter(
    engines: list[EngineView], slots: Mapping[str, int], rng: random.Random
) -> None:
    shuffled = rng.sample(engines, len(engines))
    assert next_turns(shuffled, slots) == next_turns(engines, slots)


def test_who_waits_longest_comes_first() -> None:
    engines = [waiting("young", 2.0), waiting("old", 1.0, is_up=False)]
    assert next_turns(engines, ALONE) == [Turn("old", "load")]
    assert next_turns(engines, {"here": 2}) == [Turn("old", "load"), Turn("young", "run")]


def test_a_busy_engine_takes_in_new_requests_while_nobody_older_waits() -> None:
    busy = waiting("busy", 1.0, is_busy=True)
    assert next_turns([busy], ALONE) == [Turn("busy", "run")]
    assert next_turns([busy, waiting("younger", 2.0)], ALONE) == [Turn("busy", "run")]
    assert next_turns([busy, waiting("older", 0.0)], ALONE) == []


def test_an_engine_on_one_machine_does_not_hold_up_one_on_another() -> None:
    busy = waiting("busy", 1.0, "left", is_busy=True)
    older = waiting("older", 0.0, "right")
    also = waiting("also", 0.5, "right", is_busy=True)
    slots = {"left": 1, "right": 1}
    assert next_turns([busy, older, also], slots) == [Turn("busy", "run")]
    assert next_turns([busy, older], slots) == [Turn("older", "run"), Turn("busy", "run")]


def test_an_engine_that_waits_for_any_machine_holds_up_all_that_it_may_be_loaded_on() -> None:
    busy = [waiting(name, 1.0, name, is_busy=True) for name in ("left", "right", "here")]
    older = waiting("older", 0.0, "left", "right", is_up=False)
    assert next_turns([*busy, older], dict.fromkeys(MACHINES, 1)) == [Turn("here", "run")]


def test_an_engine_is_loaded_on_the_machine_that_has_a_slot_free() -> None:
    busy = waiting("busy", None, "left", is_busy=True)
    anywhere = waiting("anywhere", 0.0, "left", "right", is_up=False)
    other = waiting("other", 1.0, "left", "right", is_up=False)
    assert next_turns([busy, anywhere, other], {"left": 1, "right": 1}) == [
        Turn("anywhere", "load")
    ]


def test_an_engine_that_loads_somewhere_leaves_a_slot_to_the_machine_of_a_busy_one() -> None:
    loads = waiting("loads", 0.0, "left", "right", is_up=False, is_busy=True)
    busy = waiting("busy", None, "left", is_busy=True)
    other = waiting("other", 1.0, "left", "right", is_up=False)
    for engines in ([loads, busy, other], [busy, loads, other]):
        assert next_turns(engines, {"left": 1, "right": 1}) == []


def test_an_engine_whose_machine_has_left_takes_no_slot_of_another() -> None:
    lost = waiting("lost", None, "gone", is_busy=True)
    assert next_turns([lost, waiting("other", 0.0)], ALONE) == [Turn("other", "run")]


def test_an_engine_that_is_nowhere_yet_is_loaded_so_that_machines_are_looked_for() -> None:
    nowhere = replace(waiting("nowhere", 1.0, is_up=False), nodes=())
    busy = waiting("busy", 2.0, is_busy=True)
    assert next_turns([nowhere, busy], ALONE) == [Turn("nowhere", "load"), Turn("busy", "run")]


def test_a_loading_engine_takes_in_nothing_yet() -> None:
    assert next_turns([waiting("loading", 1.0, is_up=False, is_busy=True)], ALONE) == []


def test_a_blocked_engine_is_skipped() -> None:
    blocked = replace(waiting("blocked", 0.0, is_up=False), is_blocked=True)
    assert next_turns([blocked, waiting("other", 1.0)], ALONE) == [Turn("other", "run")]


def test_a_busy_engine_makes_way_for_one_that_is_blocked_on_its_own_machine_only() -> None:
    blocked = replace(waiting("blocked", 0.0, "left", is_up=False), is_blocked=True)
    busy = [waiting(name, 1.0, name, is_busy=True) for name in ("left", "right")]
    assert next_turns([blocked, *busy], {"left": 2, "right": 2}) == [Turn("right", "run")]


def test_an_engine_that_waits_for_a_slot_is_loaded_ahead_where_that_is_allowed() -> None:
    engines = [waiting("busy", None, is_busy=True), waiting("next", 1.0, is_up=False)]
    assert next_turns(engines, ALONE) == []
    assert next_turns(engines, ALONE, load_ahead=True) == [Turn("next", "load", is_ahead=True)]


def test_nothing_is_loaded_ahead_of_an_engine_that_is_up_already() -> None:
    engines = [waiting("busy", None, is_busy=True), waiting("next", 1.0)]
    assert next_turns(engines, ALONE, load_ahead=True) == []


def test_nothing_is_loaded_ahead_while_another_engine_loads() -> None:
    loads = waiting("loads", 0.0, is_up=False, is_busy=True)
    engines = [loads, waiting("next", 1.0, is_up=False), wanted("wanted")]
    assert next_turns(engines, ALONE, load_ahead=True) == []


def test_an_engine_is_loaded_ahead_of_the_younger_ones() -> None:
    engines = [
        waiting("busy", None, is_busy=True),
        waiting("young", 2.0, is_up=False),
        waiting("old", 1.0, is_up=False),
        wanted("wanted"),
    ]
    assert next_turns(engines, ALONE, load_ahead=True) == [Turn("old", "load", is_ahead=True)]


def test_a_wanted_engine_is_loaded_into_a_free_slot_or_ahead_and_only_once() -> None:
    busy = waiting("busy", 1.0, is_busy=True)
    runs = Turn("busy", "run")
    assert next_turns([wanted("next")], ALONE) == [Turn("next", "load")]
    assert next_turns([wanted("next"), busy], ALONE) == [runs]
    ahead = next_turns([wanted("next"), busy], ALONE, load_ahead=True)
    assert ahead == [runs, Turn("next", "load", is_ahead=True)]
    for state in ({"is_up": True}, {"is_busy": True}, {"is_blocked": True}):
        settled = replace(wanted("next"), **state)
        assert next_turns([settled, busy], ALONE, load_ahead=True) == [runs]
