"""Samples of one expert, and its answer from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from composer.aggregators.synthesis.self_moa import SelfMoaAggregator
from composer.errors import AggregationError
from composer.types import Request
from tests.composer.aggregators.saying import references, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive


def numbered(request: Request, number: int) -> str:
    """What sample it is: by its number, or by its request's."""
    path = request.id.split("/")[3:]
    return f"{request.purpose} {request.expert} {path[0] if path else number}"


def test_the_first_choice_is_sampled_and_aggregates_its_samples(drive: Drive) -> None:
    ran = run_saying(SelfMoaAggregator(n=3), numbered, drive.query(), drive.selection())

    assert [r.id for r in ran.requests] == ["q1/propose/ann", "q1/aggregate/ann"]
    assert references(ran.requests[1]) == ["propose ann 1", "propose ann 2", "propose ann 3"]
    assert [r.final for r in ran.requests] == [False, True]
    assert ran.answer.text == "aggregate ann 1"
    assert ran.answer.reason == "ann synthesised 3 samples of its own"
    assert ran.answer.saved == ("ben", "cas")


def test_samples_are_drawn_at_a_temperature_and_the_answer_is_not(drive: Drive) -> None:
    aggregator = SelfMoaAggregator(n=3, temperature=0.9, max_tokens=50)

    samples, answer = run_saying(aggregator, numbered, drive.query(), drive.selection()).requests

    assert (samples.sampling.n, samples.sampling.temperature) == (3, 0.9)
    assert (answer.sampling.n, answer.sampling.temperature) == (1, None)
    assert (samples.sampling.max_tokens, answer.sampling.max_tokens) == (50, 50)


def test_samples_may_be_asked_for_one_by_one_each_with_a_seed(drive: Drive) -> None:
    ran = run_saying(
        SelfMoaAggregator(n=3, separate=True), numbered, drive.query(), drive.selection()
    )

    *samples, answer = ran.requests
    assert [r.id for r in samples] == [f"q1/propose/ann/{i}" for i in (1, 2, 3)]
    assert {r.sampling.n for r in samples} == {1}
    assert len({r.sampling.seed for r in samples}) == 3
    assert references(answer) == ["propose ann 1", "propose ann 2", "propose ann 3"]


def test_the_seed_is_the_querys(drive: Drive) -> None:
    def seed(query_id: str) -> int | None:
        query = replace(drive.query(), id=query_id)
        ran = run_saying(SelfMoaAggregator(), numbered, query, drive.selection())
        return ran.requests[0].sampling.seed

    assert seed("q1") == seed("q1")
    assert seed("q1") != seed("q2")


def test_the_expert_may_be_named_and_the_ranking_stands_in_for_it(drive: Drive) -> None:
    aggregator = SelfMoaAggregator(by="zoe", n=2)

    named = drive(aggregator, {"zoe": "42", "ann": "41"})
    stood_in = drive(aggregator, {"ann": "41"})

    assert {r.expert for r in named.requests} == {"zoe"}
    assert [r.expert for r in stood_in.requests] == ["zoe", "ann", "ann"]
    assert stood_in.answer.details["failed"] == ("zoe",)
    assert aggregator.experts == {"zoe"}


def test_some_samples_are_enough(drive: Drive) -> None:
    def say(request: Request, number: int) -> str | None:
        return None if request.id.endswith("/2") else numbered(request, number)

    ran = run_saying(SelfMoaAggregator(n=3, separate=True), say, drive.query(), drive.selection())

    assert references(ran.requests[-1]) == ["propose ann 1", "propose ann 3"]
    assert ran.answer.details["samples"] == 2
    assert [f.request_id for f in ran.answer.failures] == ["q1/propose/ann/2"]


def test_reasoning_and_silence_are_no_samples(drive: Drive) -> None:
    texts = ["<think>a</think>42", " ", "<think>b"]

    def say(request: Request, number: int) -> str:
        return texts[number - 1] if request.purpose == "propose" else "42!"

    ran = run_saying(SelfMoaAggregator(n=3), say, drive.query(), drive.selection())

    assert references(ran.requests[-1]) == ["42"]


def test_a_silent_expert_is_followed_by_the_next(drive: Drive) -> None:
    ran = drive(SelfMoaAggregator(n=2), {"ann": " ", "ben": "42"})

    assert ran.answer.expert == "ben"
    assert ran.answer.details["silent"] == ("ann",)


@pytest.mark.parametrize(("said", "why"), [("fails", "failed: it is gone"), (" ", "said nothing")])
def test_the_first_sample_stands_when_the_aggregation_comes_to_nothing(
    said: str, why: str, drive: Drive
) -> None:
    ran = drive(SelfMoaAggregator(), {"ann": "42", "aggregate ann": said})

    assert ran.answer.text == "42"
    assert ran.answer.reason == f"the first sample, because ann {why}"
    assert ran.answer.details["synthesised"] is False


def test_samples_are_cut_to_the_context(drive: Drive) -> None:
    aggregator = SelfMoaAggregator(n=3, max_tokens=100)

    ran = drive(aggregator, {"ann": "x" * 500, "aggregate ann": "y"}, limits={"ann": 1200})

    assert sum(len(m.content) for m in ran.requests[-1].messages) <= 1100
    assert all(len(text) < 300 for text in references(ran.requests[-1]))


def test_each_failure_is_named_once_however_many_samples_failed(drive: Drive) -> None:
    with pytest.raises(AggregationError) as caught:
        drive(SelfMoaAggregator(separate=True), {"dan": ""})

    assert str(caught.value) == (
        "no expert proposed anything: ann: it is gone; ben: it is gone; cas: it is gone; "
        "dan: said nothing"
    )
