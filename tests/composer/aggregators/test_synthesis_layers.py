"""Several layers of proposals: who proposes again, and what each layer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from composer.aggregators.synthesis.synthesis import SynthesisAggregator
from composer.errors import AggregationError
from composer.types import Request
from tests.composer.aggregators.saying import references, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive


def layer_of(request: Request) -> str:
    """`1`, `2`, ... of a proposal, `end` of the aggregation."""
    if request.purpose == "aggregate":
        return "end"
    number = request.id.split("/")[3:]
    return number[0] if number else "1"


def by_id(request: Request, number: int) -> str:
    return f"{request.expert} in {layer_of(request)}"


def test_each_layer_reads_the_one_before_and_the_last_is_aggregated(drive: Drive) -> None:
    ran = run_saying(SynthesisAggregator(layers=3), by_id, drive.query(), drive.selection())

    assert [r.id for r in ran.requests] == [
        *("q1/propose/ann", "q1/propose/ben", "q1/propose/cas"),
        *("q1/propose/ann/2", "q1/propose/ben/2", "q1/propose/cas/2"),
        *("q1/propose/ann/3", "q1/propose/ben/3", "q1/propose/cas/3"),
        "q1/aggregate/ann",
    ]
    assert references(ran.requests[3]) == ["ann in 1", "ben in 1", "cas in 1"]
    assert references(ran.requests[6]) == ["ann in 2", "ben in 2", "cas in 2"]
    assert references(ran.requests[9]) == ["ann in 3", "ben in 3", "cas in 3"]
    assert ran.answer.text == "ann in end"
    assert ran.answer.details["layers"] == (("ann", "ben", "cas"),) * 3


def test_only_the_aggregation_is_streamed(drive: Drive) -> None:
    ran = run_saying(SynthesisAggregator(layers=2), by_id, drive.query(), drive.selection())

    assert [r.final for r in ran.requests] == [False] * 6 + [True]


def test_all_layers_so_far_may_be_carried(drive: Drive) -> None:
    aggregator = SynthesisAggregator(layers=2, carry="all")

    ran = run_saying(aggregator, by_id, drive.query(), drive.selection(k=2))

    assert references(ran.requests[2]) == ["ann in 1", "ben in 1"]
    assert references(ran.requests[-1]) == ["ann in 1", "ben in 1", "ann in 2", "ben in 2"]


def test_carried_layers_that_do_not_fit_are_dropped_from_the_oldest(drive: Drive) -> None:
    aggregator = SynthesisAggregator(layers=2, carry="all", by="zoe", max_tokens=10)

    def say(request: Request, number: int) -> str:
        return by_id(request, number) + "." * 200

    ran = run_saying(aggregator, say, drive.query(), drive.selection(k=2), limits={"zoe": 1100})

    assert [reference[:8] for reference in references(ran.requests[-1])] == ["ann in 2", "ben in 2"]


def test_references_of_an_inner_layer_are_cut_to_each_proposers_own_context(drive: Drive) -> None:
    def say(request: Request, number: int) -> str:
        return "x" * 900

    ran = run_saying(
        SynthesisAggregator(layers=2, by="cas"),
        say,
        drive.query(),
        drive.selection(k=2),
        limits={"ben": 1500},
    )

    ann, ben = (references(r) for r in ran.requests if layer_of(r) == "2")
    assert [len(reference) for reference in ann] == [900, 900]
    assert all(len(reference) < 500 for reference in ben)


def test_a_proposer_without_room_for_references_is_left_out_of_the_next_layer(
    drive: Drive,
) -> None:
    ran = run_saying(
        SynthesisAggregator(layers=2),
        by_id,
        drive.query(),
        drive.selection(k=2),
        limits={"ben": 290},
    )

    assert [r.id for r in ran.requests if layer_of(r) == "2"] == ["q1/propose/ann/2"]
    assert [(f.request_id, f.kind) for f in ran.answer.failures] == [
        ("q1/propose/ben/2", "too_long")
    ]
    assert ran.answer.details["failed"] == ("ben",)
    assert ran.answer.details["layers"] == (("ann", "ben"), ("ann",))


def test_who_failed_once_is_not_asked_again(drive: Drive) -> None:
    def say(request: Request, number: int) -> str | None:
        fails = {"ben": "1", "cas": "2"}.get(request.expert) == layer_of(request)
        return None if fails else by_id(request, number)

    ran = run_saying(SynthesisAggregator(layers=3), say, drive.query(), drive.selection())

    assert [layer_of(r) for r in ran.requests if r.expert == "ben"] == ["1"]
    assert [layer_of(r) for r in ran.requests if r.expert == "cas"] == ["1", "2"]
    assert ran.answer.details["layers"] == (("ann", "cas"), ("ann",), ("ann",))
    assert ran.answer.details["failed"] == ("ben", "cas")


def test_a_layer_that_comes_to_nothing_leaves_the_one_before(drive: Drive) -> None:
    def say(request: Request, number: int) -> str | None:
        return None if layer_of(request) == "2" else by_id(request, number)

    ran = run_saying(SynthesisAggregator(layers=3), say, drive.query(), drive.selection())

    assert references(ran.requests[-1]) == ["ann in 1", "ben in 1", "cas in 1"]
    assert ran.answer.text == "ann in end"
    assert {f.request_id for f in ran.answer.failures} == {
        "q1/propose/ann/2",
        "q1/propose/ben/2",
        "q1/propose/cas/2",
    }


def test_the_best_proposal_of_the_last_layer_stands_when_the_aggregation_fails(
    drive: Drive,
) -> None:
    def say(request: Request, number: int) -> str | None:
        return None if layer_of(request) == "end" else by_id(request, number)

    ran = run_saying(SynthesisAggregator(layers=2), say, drive.query(), drive.selection())

    assert ran.answer.text == "ann in 2"
    assert ran.answer.reason == "the best-ranked proposal, because ann failed: it is gone"


def test_the_best_proposal_stands_when_the_aggregating_expert_only_reasons(drive: Drive) -> None:
    def say(request: Request, number: int) -> str:
        return "<think>Let me" if layer_of(request) == "end" else by_id(request, number)

    ran = run_saying(SynthesisAggregator(), say, drive.query(), drive.selection())

    assert ran.answer.text == "ann in 1"
    assert ran.answer.reason == "the best-ranked proposal, because ann said nothing"
    assert ran.answer.details["synthesised"] is False


def test_reasoning_is_no_reference_and_whoever_only_reasons_is_silent(drive: Drive) -> None:
    said = {"ann": "<think>hm</think>42", "ben": "<think>hm, is it", "cas": "41"}

    ran = drive(SynthesisAggregator(by="zoe"), {**said, "zoe": "<think>so</think>42"})

    assert references(ran.requests[-1]) == ["42", "41"]
    assert ran.answer.details["silent"] == ("ben",)
    assert ran.answer.text == "<think>so</think>42"


def test_fewer_proposals_than_wanted_are_an_error_that_names_who_is_missing(drive: Drive) -> None:
    aggregator = SynthesisAggregator(min_proposals=2)

    with pytest.raises(AggregationError) as caught:
        drive(aggregator, {"ann": "42", "ben": " "})

    assert str(caught.value) == (
        "1 of at least 2 proposals (cas: it is gone; ben: said nothing); lower 'min_proposals'"
    )


def test_as_many_proposals_as_wanted_are_enough(drive: Drive) -> None:
    answer = drive(SynthesisAggregator(min_proposals=2), {"ann": "42", "ben": "42"}).answer

    assert answer.details["proposers"] == ("ann", "ben")


def test_a_further_layer_with_fewer_than_wanted_ends_the_layers(drive: Drive) -> None:
    def say(request: Request, number: int) -> str | None:
        gone = layer_of(request) == "2" and request.expert != "ann"
        return None if gone else by_id(request, number)

    aggregator = SynthesisAggregator(layers=3, min_proposals=2)
    ran = run_saying(aggregator, say, drive.query(), drive.selection())

    assert [layer_of(r) for r in ran.requests] == ["1"] * 3 + ["2"] * 3 + ["end"]
    assert ran.answer.details["layers"] == (("ann", "ben", "cas"),)


def test_the_temperature_is_of_the_proposals_and_the_bound_of_all_texts(drive: Drive) -> None:
    aggregator = SynthesisAggregator(layers=2, temperature=0.7, max_tokens=99)

    ran = run_saying(aggregator, by_id, drive.query(), drive.selection(k=1))

    assert [r.sampling.temperature for r in ran.requests] == [0.7, 0.7, None]
    assert [r.sampling.max_tokens for r in ran.requests] == [99, 99, 99]
