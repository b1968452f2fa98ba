"""Whether comparisons are fair: both orders, ties, a biased judge; and what is asked together."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.aggregators.judge.calls import judge_calls
from composer.aggregators.judge.judge import JudgeAggregator
from composer.flow import FlowRun
from composer.types import Completion, Request, Sample
from tests.composer.aggregators.conftest import CharacterTools
from tests.composer.aggregators.saying import Say, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive, Ran

PAIRWISE = JudgeAggregator(by="dan", mode="pairwise")
EIGHT = tuple("abcdefgh")


def comparing(prefer: Callable[[str, str], str | None]) -> Say:
    """Experts answer with their names; `prefer` is asked for A, B or tie of what is shown."""

    def say(request: Request, number: int) -> str | None:
        if request.purpose == "propose":
            return request.expert
        first, second = shown(request)
        better = prefer(first, second)
        return None if better is None else json.dumps({"better": better})

    return say


def shown(request: Request) -> tuple[str, str]:
    """The two answers that the judge reads, in their order."""
    content = request.messages[1].content
    first, second = (content.partition(f"<reference answer {x}>\n")[2] for x in "AB")
    return first.partition("\n")[0], second.partition("\n")[0]


def judged(ran: Ran) -> list[Request]:
    return [r for r in ran.requests if r.purpose == "judge"]


def run(drive: Drive, prefer: Callable[[str, str], str | None], names: tuple[str, ...]) -> Ran:
    selection = drive.selection(k=len(names), ranking=(*names, "dan"))
    return run_saying(PAIRWISE, comparing(prefer), drive.query(), selection)


def test_each_comparison_is_asked_in_both_orders_at_the_same_time(drive: Drive) -> None:
    ran = run(drive, lambda first, second: "A" if first == "ben" else "B", ("ann", "ben"))

    assert [r.id for r in judged(ran)] == ["q1/judge/dan/1-2", "q1/judge/dan/2-1"]
    assert [shown(r) for r in judged(ran)] == [("ann", "ben"), ("ben", "ann")]
    assert ran.answer.expert == "ben"
    assert ran.answer.reason == "dan put ben first of 2 proposals"
    assert ran.answer.details["comparisons"] == ({"pair": ("ann", "ben"), "margin": -2},)


@pytest.mark.parametrize("always", ["A", "B", "tie"])
def test_a_judge_that_goes_by_position_changes_nothing(drive: Drive, always: str) -> None:
    ran = run(drive, lambda first, second: always, EIGHT)

    assert ran.answer.details["ranking"] == EIGHT
    assert {c["margin"] for c in ran.answer.details["comparisons"]} == {0}
    assert ran.answer.details["judged"] is True


def test_a_win_in_one_order_and_a_tie_in_the_other_is_a_win(drive: Drive) -> None:
    ran = run(drive, lambda first, second: "B" if second == "ben" else "tie", ("ann", "ben"))

    assert ran.answer.expert == "ben"
    assert ran.answer.details["comparisons"][0]["margin"] == -1


def test_a_comparison_with_one_usable_order_is_undecided(drive: Drive) -> None:
    said = {("ben", "cas"): "A", ("cas", "ben"): "B", ("ann", "ben"): "B", ("ben", "ann"): None}

    ran = run(drive, lambda first, second: said[first, second], ("ann", "ben", "cas"))

    assert ran.answer.details["comparisons"] == (
        {"pair": ("ben", "cas"), "margin": 2},
        {"pair": ("ann", "ben"), "margin": None},
    )
    assert ran.answer.details["ranking"] == ("ann", "ben", "cas")
    assert ran.answer.details["judged"] is True


def test_a_judge_without_a_usable_pair_is_asked_one_round(drive: Drive) -> None:
    ran = run(drive, lambda first, second: "A" if first < second else None, EIGHT)

    assert len(judged(ran)) == 8
    assert ran.answer.expert == "a"
    assert ran.answer.details["judged"] is False
    assert "because dan failed: it is gone" in ran.answer.reason


def test_an_unusable_order_is_quoted_though_the_other_is_usable(drive: Drive) -> None:
    ran = run(drive, lambda first, second: "A" if first < second else "hm", ("ann", "ben"))

    assert """such as '{"better": "hm"}'""" in ran.answer.reason
    assert ran.answer.details["unusable"] == 1


def test_several_judgements_of_an_order_are_averaged(drive: Drive) -> None:
    def say(request: Request, number: int) -> str:
        if request.purpose == "propose":
            return request.expert
        better = {("ann", "ben"): "BBA", ("ben", "ann"): "BBB"}[shown(request)][number - 1]
        return json.dumps({"better": better})

    aggregator = JudgeAggregator(by="dan", mode="pairwise", samples=3, judge_temperature=1.0)
    ran = run_saying(aggregator, say, drive.query(), drive.selection(k=2))

    assert ran.answer.details["comparisons"][0]["margin"] == pytest.approx(-1 / 3 + 1)
    assert ran.answer.expert == "ann"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(EIGHT), st.integers(2, 8))
def test_a_consistent_judge_gets_its_order_for_the_calls_of_the_formula(
    drive: Drive, order: list[str], k: int
) -> None:
    names = tuple(sorted(order[:k]))
    wanted = tuple(name for name in order if name in names)

    ran = run(drive, lambda a, b: "A" if wanted.index(a) < wanted.index(b) else "B", names)

    assert ran.answer.details["ranking"] == wanted
    calls = judge_calls("pairwise", k, order=[names.index(name) for name in wanted])
    assert len(ran.requests) == calls <= judge_calls("pairwise", k)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 8), st.integers(0, 2**32))
def test_whatever_the_judge_says_both_orders_are_asked_in_one_round(
    drive: Drive, k: int, seed: int
) -> None:
    rng = random.Random(seed)
    names = EIGHT[:k]
    selection = drive.selection(k=k, ranking=(*names, "dan"))
    flow = FlowRun(PAIRWISE.combine(drive.query(), selection, CharacterTools()))

    def say(request: Request) -> Completion:
        better = json.dumps({"better": rng.choice(["A", "B", "tie", "?"])})
        text = better if request.purpose == "judge" else request.expert
        return Completion(request.id, request.expert, (Sample(text, "stop", 1),), 1)

    requests = flow.deliver([say(r) for r in flow.start()])
    seen: list[tuple[str, str]] = []
    while not flow.is_done:
        pairs = [shown(r) for r in requests]
        assert [(b, a) for a, b in pairs[::2]] == pairs[1::2]
        seen += pairs
        requests = flow.deliver([say(r) for r in requests])

    assert len(seen) == len(set(seen)) <= 2 * len(list(combinations(names, 2)))


def test_comparisons_that_do_not_depend_on_each_other_are_asked_together(drive: Drive) -> None:
    selection = drive.selection(k=8, ranking=(*EIGHT, "dan"))
    flow = FlowRun(PAIRWISE.combine(drive.query(), selection, CharacterTools()))
    say = comparing(lambda first, second: "A" if first < second else "B")
    sizes: list[int] = []
    requests = flow.start()
    while not flow.is_done:
        sizes.append(len(requests))
        texts = [(r, say(r, 1) or "") for r in requests]
        requests = flow.deliver(
            [Completion(r.id, r.expert, (Sample(t, "stop", 1),), 1) for r, t in texts]
        )

    assert sizes == [8, 8, 4, 4, 2, 2, 2, 2]
