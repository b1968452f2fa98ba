"""How samples pass through the window, and what an answer so far is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.aggregators.synthesis.sequential import SequentialAggregator
from composer.errors import AggregationError
from composer.types import Request
from tests.composer.aggregators.saying import references, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive, Ran

ANY_DRIVE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def say(request: Request, number: int) -> str:
    """`ann 3` of the third sample, `answer 2` of the second aggregation."""
    last = request.id.split("/")[-1]
    if request.purpose == "aggregate":
        return f"answer {last}"
    return f"{request.expert} {last if last.isdigit() else number}"


def run(drive: Drive, k: int = 3, **given: Any) -> Ran:
    return run_saying(SequentialAggregator(**given), say, drive.query(), drive.selection(k=k))


def windows(ran: Ran) -> list[list[str]]:
    return [references(r) for r in ran.requests if r.purpose == "aggregate"]


def test_each_window_holds_copies_of_the_answer_so_far_and_new_samples(drive: Drive) -> None:
    ran = run(drive, n=8, window=4, reserved=2)

    assert windows(ran) == [
        ["ann 1", "ann 2", "ann 3", "ann 4"],
        ["answer 1", "answer 1", "ann 5", "ann 6"],
        ["answer 2", "answer 2", "ann 7", "ann 8"],
    ]
    assert ran.answer.text == "answer 3"
    assert ran.answer.reason == "ann synthesised 8 samples in 3 windows"
    assert ran.answer.details["windows"] == (4, 2, 2)


def test_one_copy_may_do_so_that_more_samples_are_new(drive: Drive) -> None:
    ran = run(drive, n=7, window=4, reserved=2, reserve="one")

    assert windows(ran) == [
        ["ann 1", "ann 2", "ann 3", "ann 4"],
        ["answer 1", "ann 5", "ann 6", "ann 7"],
    ]


def test_the_last_window_may_be_smaller(drive: Drive) -> None:
    assert windows(run(drive, n=5, window=4, reserved=2))[1] == ["answer 1", "answer 1", "ann 5"]


def test_samples_that_fit_one_window_are_aggregated_once(drive: Drive) -> None:
    assert windows(run(drive, n=3, window=6)) == [["ann 1", "ann 2", "ann 3"]]


def test_only_the_last_aggregation_is_streamed(drive: Drive) -> None:
    ran = run(drive, n=8, window=4, reserved=2)

    assert [(r.id, r.final) for r in ran.requests] == [
        ("q1/propose/ann", False),
        ("q1/aggregate/ann/1", False),
        ("q1/aggregate/ann/2", False),
        ("q1/aggregate/ann/3", True),
    ]


@ANY_DRIVE
@given(
    st.integers(1, 40),
    st.integers(2, 9).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w - 1))),
    st.sampled_from(["copies", "one"]),
)
def test_every_sample_is_read_once_in_as_many_aggregations_as_the_formula_says(
    drive: Drive, n: int, sizes: tuple[int, int], reserve: Literal["copies", "one"]
) -> None:
    window, reserved = sizes

    ran = run(drive, n=n, window=window, reserved=reserved, reserve=reserve)

    seen = windows(ran)
    new = window - (reserved if reserve == "copies" else 1)
    assert len(seen) == 1 + max(0, math.ceil((n - window) / new))
    assert all(len(each) <= window for each in seen)
    assert [text for each in seen for text in each if text.startswith("ann")] == [
        f"ann {i}" for i in range(1, n + 1)
    ]


def test_the_published_sizes_take_nine_aggregations(drive: Drive) -> None:
    assert run(drive).answer.details["aggregations"] == 9


def test_the_selection_may_sample_in_turn(drive: Drive) -> None:
    ran = run(drive, n=5, window=5, samplers="selection")

    assert [(r.id, r.sampling.n) for r in ran.requests[:-1]] == [
        ("q1/propose/ann", 2),
        ("q1/propose/ben", 2),
        ("q1/propose/cas", 1),
    ]
    assert windows(ran) == [["ann 1", "ben 1", "cas 1", "ann 2", "ben 2"]]
    assert ran.answer.details["samples"] == ("ann", "ben", "cas", "ann", "ben")


def test_who_has_no_share_is_not_asked(drive: Drive) -> None:
    ran = run(drive, n=2, samplers="selection")

    assert {r.expert for r in ran.requests} == {"ann", "ben"}


def test_the_samples_of_who_fails_are_missing(drive: Drive) -> None:
    ran = drive(SequentialAggregator(n=6, samplers="selection"), {"ben": "42", "cas": "41"})

    assert ran.answer.details["samples"] == ("ben", "cas", "ben", "cas")
    assert ran.answer.details["failed"] == ("ann",)
    assert ran.answer.expert == "ben"


def test_when_the_whole_selection_fails_the_error_names_each(drive: Drive) -> None:
    with pytest.raises(AggregationError, match="ann: it is gone; ben: it is gone; cas: it is gone"):
        drive(SequentialAggregator(samplers="selection"), {"dan": "42"})


def test_where_one_samples_the_ranking_stands_in_for_it(drive: Drive) -> None:
    ran = drive(SequentialAggregator(n=2), {"ben": "42"})

    assert [r.expert for r in ran.requests] == ["ann", "ben", "ben"]


def test_samples_may_be_asked_for_one_by_one(drive: Drive) -> None:
    ran = run(drive, n=4, window=4, samplers="selection", separate=True, k=2)

    assert [r.id for r in ran.requests[:-1]] == [
        "q1/propose/ann/1",
        "q1/propose/ann/2",
        "q1/propose/ben/1",
        "q1/propose/ben/2",
    ]
    assert windows(ran) == [["ann 1", "ben 1", "ann 2", "ben 2"]]


def test_another_expert_may_aggregate(drive: Drive) -> None:
    ran = drive(SequentialAggregator(by="zoe", n=8), {"ann": "42", "zoe": "42!"})

    assert [r.expert for r in ran.requests] == ["ann", "zoe", "zoe"]
    assert ran.answer.expert == "zoe"


def test_the_answer_so_far_stands_when_a_later_aggregation_fails(drive: Drive) -> None:
    def fail_second(request: Request, number: int) -> str | None:
        return None if request.id == "q1/aggregate/ann/2" else say(request, number)

    aggregator = SequentialAggregator(n=12, window=4, reserved=2)
    ran = run_saying(aggregator, fail_second, drive.query(), drive.selection())

    assert ran.answer.text == "answer 1"
    assert ran.answer.reason == "the answer of window 1, because ann failed: it is gone"
    assert ran.requests[-1].id == "q1/aggregate/ann/2"
    assert ran.answer.details["synthesised"] is False
    assert [f.request_id for f in ran.answer.failures] == ["q1/aggregate/ann/2"]


def test_the_first_sample_stands_when_no_aggregation_comes_to_anything(drive: Drive) -> None:
    ran = drive(SequentialAggregator(n=12), {"ann": "42", "aggregate ann": "<think>hm"})

    assert ran.answer.text == "42"
    assert ran.answer.reason == "the first sample, because ann said nothing"
    assert ran.answer.details["aggregations"] == 0


def test_the_answer_so_far_is_handed_on_without_its_reasoning(drive: Drive) -> None:
    def think(request: Request, number: int) -> str:
        return f"<think>hm</think>{say(request, number)}"

    aggregator = SequentialAggregator(n=4, window=3, reserved=2)
    ran = run_saying(aggregator, think, drive.query(), drive.selection())

    assert windows(ran)[1] == ["answer 1", "answer 1", "ann 4"]


def test_each_window_is_cut_to_the_context(drive: Drive) -> None:
    aggregator = SequentialAggregator(n=9, max_tokens=100)

    ran = drive(aggregator, {"ann": "x" * 500, "aggregate ann": "y" * 500}, limits={"ann": 1500})

    aggregations = [r for r in ran.requests if r.purpose == "aggregate"]
    assert len(aggregations) == 2
    assert all(sum(len(m.content) for m in r.messages) <= 1400 for r in aggregations)
