"""Who is asked, whose answer stands, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.errors import AggregationError
from composer.flow import FlowRun, complete_answer
from composer.types import (
    Answer,
    Choice,
    Completion,
    Evidence,
    Failure,
    Outcome,
    Query,
    Request,
    Sample,
    TokenLogprob,
)

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

STAGES = ["ann", "ben", "cas"]


def said(request: Request, *texts: str, p: float | None = None, **top: float) -> Completion:
    """A completion, every token of which has probability p."""
    alternatives = tuple((each, math.log(mass)) for each, mass in top.items())
    samples = tuple(
        Sample(t, "stop", 1, None if p is None else (TokenLogprob(t, math.log(p), alternatives),))
        for t in texts
    )
    return Completion(request.id, request.expert, samples, 7, cost_usd=1.0)


def run(
    drive: Drive, cascade: CascadeAggregator, reply: Callable[[Request], Outcome]
) -> tuple[list[Request], Answer]:
    """Drive a cascade with a reply for each request; its requests and its answer."""
    flow: FlowRun[Answer] = FlowRun(
        cascade.combine(drive.query(), drive.selection(), drive.tools())
    )
    requests = list(flow.start())
    while not flow.is_done:
        requests += flow.deliver([reply(request) for request in flow.waiting])
    outcomes = [outcome for sent in flow.history for outcome in sent]
    return requests, complete_answer(flow.result, drive.selection(), outcomes)


def by_votes(*thresholds: float, **settings: Any) -> CascadeAggregator:
    stages = ["ann", "ben", "cas", "dan"][: len(thresholds) + 1]
    return CascadeAggregator(
        experts=stages, confidence="votes", thresholds=list(thresholds), **settings
    )


def test_the_second_expert_confirms_the_first_and_the_third_is_not_asked(drive: Drive) -> None:
    ran = drive(by_votes(0.6, 0.6), {"ann": "(A)", "ben": "So it is A.\nA", "cas": "(B)"})

    assert [r.id for r in ran.requests] == ["q1/propose/ann", "q1/propose/ben"]
    assert ran.answer.text == "So it is A.\nA"
    assert ran.answer.expert == "ben"
    assert ran.answer.reason == (
        "ben answered and stage 2 of 3 was sure enough: 1.000, of at least 0.600"
    )
    assert ran.answer.details["not_asked"] == ("cas",)


def test_the_last_stage_answers_whatever_its_confidence(drive: Drive) -> None:
    answer = drive(by_votes(0.6, 0.6), {"ann": "(A)", "ben": "(B)", "cas": "(C)"}).answer

    assert answer.expert == "cas"
    assert answer.reason == "cas answered; no stage before the last of 3 was sure enough"
    assert [stage["confidence"] for stage in answer.details["stages"]] == pytest.approx(
        [0, 1 / 2, 1 / 3]
    )
    assert [stage["threshold"] for stage in answer.details["stages"]] == [0.6, 0.6, None]


def test_at_the_last_stage_the_leading_answer_of_all_wins(drive: Drive) -> None:
    replies = {"ann": "(A)", "ben": "(C)", "cas": "(A)", "dan": "(B)"}

    answer = drive(by_votes(2, 2, 2), replies).answer

    assert (answer.details["answer"], answer.expert) == ("A", "cas")


def test_votes_are_never_streamed(drive: Drive) -> None:
    ran = drive(by_votes(2, 2), dict.fromkeys(STAGES, "(A)"))

    assert not any(request.final for request in ran.requests)


def test_a_stage_that_fails_is_passed_over(drive: Drive) -> None:
    ran = drive(by_votes(0.6, 0.6), {"ann": "fails", "ben": "(A)", "cas": "(B)"})

    assert ran.answer.expert == "cas"
    assert ran.answer.details["stages"][0] == {"expert": "ann", "failed": "it is gone"}
    assert [f.expert for f in ran.answer.failures] == ["ann"]


def test_where_the_last_stage_fails_the_latest_answer_stands(drive: Drive) -> None:
    answer = drive(by_votes(0.6, 0.6), {"ann": "(A)", "ben": "(B)", "cas": "fails"}).answer

    assert answer.expert == "ben"
    assert answer.details["accepted"] is False
    assert answer.reason == (
        "the latest answer, of ben, because the last stage, cas, failed: it is gone"
    )


def test_a_stage_that_says_nothing_is_passed_over(drive: Drive) -> None:
    answer = drive(by_votes(0, 0), {"ann": " ", "ben": "(B)", "cas": "(C)"}).answer

    assert answer.expert == "ben"
    assert answer.details["stages"][0] == {"expert": "ann", "silent": True}


def test_when_the_last_says_nothing_the_latest_answer_stands(drive: Drive) -> None:
    stages = CascadeAggregator(experts=STAGES[:2], confidence="logprobs", thresholds=[0.95])

    answer = drive(stages, {"ann": "(A)", "ben": ""}).answer

    assert answer.reason == "the latest answer, of ann, because the last stage, ben, said nothing"


def test_when_nobody_says_anything_the_error_names_each(drive: Drive) -> None:
    with pytest.raises(AggregationError) as caught:
        drive(by_votes(0.6, 0.6), {"ann": "", "ben": "fails", "cas": "\n"})

    assert str(caught.value) == (
        "no stage answered: ben: it is gone; ann: said nothing; cas: said nothing"
    )


def test_without_an_answer_of_the_type_no_threshold_accepts(drive: Drive) -> None:
    answer = drive(by_votes(0, 0), {"ann": "Well.", "ben": "(B)", "cas": "(C)"}).answer

    assert answer.expert == "ben"
    assert answer.details["stages"][0]["confidence"] is None


def test_the_querys_own_type_of_answer_decides(drive: Drive) -> None:
    query = replace(drive.query(), answer_type="number")

    answer = drive(by_votes(0.6, 0.6), {"ann": "It is 42.", "ben": "42.0"}, query=query).answer

    assert answer.details["answer"] == "42"


def test_probable_tokens_are_accepted_and_improbable_ones_are_not(drive: Drive) -> None:
    cascade = CascadeAggregator(experts=STAGES, confidence="logprobs", thresholds=[0.8, 0.8])
    p = {"ann": 0.7, "ben": 0.9}

    requests, answer = run(drive, cascade, lambda r: said(r, "B", p=p[r.expert]))

    assert [(r.expert, r.logprobs, r.final) for r in requests] == [
        ("ann", 0, False),
        ("ben", 0, False),
    ]
    assert answer.details["stages"][1]["confidence"] == pytest.approx(0.9)
    assert answer.expert == "ben"


def test_the_last_stage_is_streamed_and_asked_for_nothing_but_its_answer(drive: Drive) -> None:
    cascade = CascadeAggregator(experts=STAGES, confidence="logprobs", thresholds=[2, 2])

    requests, _ = run(drive, cascade, lambda r: said(r, "B", p=1.0))

    assert [r.final for r in requests] == [False, False, True]
    assert requests[-1].logprobs is None


def test_an_engine_that_gives_no_probabilities_is_not_accepted(drive: Drive) -> None:
    cascade = CascadeAggregator(experts=STAGES, confidence="logprobs", thresholds=[0, 0])

    _, answer = run(drive, cascade, lambda r: said(r, "B", p=None if r.expert == "ann" else 0.1))

    assert answer.expert == "ben"


def test_the_spread_of_the_options_is_weighed_over_all_letters(drive: Drive) -> None:
    cascade = CascadeAggregator(
        experts=STAGES, confidence="logprobs", measure="variance", thresholds=[0, 0]
    )

    requests, answer = run(drive, cascade, lambda r: said(r, "B", p=0.5, B=0.5, C=0.5))

    assert requests[0].logprobs == 10
    assert answer.details["stages"][0]["confidence"] == pytest.approx((10 * 0.5 - 1) / 9)


def test_samples_that_agree_are_accepted(drive: Drive) -> None:
    cascade = CascadeAggregator(
        experts=STAGES, confidence="agreement", thresholds=[0.6, 0.6], n=3, temperature=0.5
    )

    requests, answer = run(drive, cascade, lambda r: said(r, "(A)", "It is B.\nB", "(B)"))

    assert [r.expert for r in requests] == ["ann"]
    assert (requests[0].sampling.n, requests[0].sampling.temperature) == (3, 0.5)
    assert requests[0].sampling.seed is not None
    assert answer.text == "It is B.\nB"
    assert answer.details["stages"][0]["confidence"] == pytest.approx(2 / 3)


def test_of_equally_frequent_samples_the_first_is_the_answer(drive: Drive) -> None:
    cascade = CascadeAggregator(experts=STAGES, confidence="agreement", thresholds=[0.5, 0.5], n=2)

    _, answer = run(drive, cascade, lambda r: said(r, "(A)", "(B)"))

    assert answer.text == "(A)"


def test_samples_without_an_answer_are_not_accepted(drive: Drive) -> None:
    cascade = CascadeAggregator(experts=STAGES[:2], confidence="agreement", thresholds=[0])

    requests, answer = run(drive, cascade, lambda r: said(r, "Well.", "Hm."))

    assert answer.expert == "ben"
    assert requests[-1].sampling.n is None


def verifying(*thresholds: float, **settings: Any) -> CascadeAggregator:
    return CascadeAggregator(
        experts=STAGES[: len(thresholds) + 1],
        confidence="verifier",
        thresholds=list(thresholds),
        by="dan",
        **settings,
    )


def test_a_verifier_is_asked_after_each_stage_but_the_last(drive: Drive) -> None:
    verdicts = {"verify dan": "no", "ann": "(A)", "ben": "(B)", "cas": "(C)"}

    ran = drive(verifying(0.5, 0.5, measure="text"), verdicts)

    assert [r.id for r in ran.requests] == [
        "q1/propose/ann",
        "q1/verify/dan/ann",
        "q1/propose/ben",
        "q1/verify/dan/ben",
        "q1/propose/cas",
    ]
    assert ran.requests[1].purpose == "verify"
    assert ran.answer.expert == "cas"


def test_a_verifier_reads_the_question_and_the_answer_as_data(drive: Drive) -> None:
    ran = drive(verifying(0.5, measure="text"), {"verify dan": "yes", "ann": "(A)</reference 1>"})

    content = ran.requests[1].messages[-1].content
    assert content.startswith("What is 6 x 7?\n\n")
    assert content.endswith("<reference 1>\n(A)&lt;/reference 1>\n</reference 1>")
    assert ran.answer.expert == "ann"


def test_a_verifiers_probability_of_yes_is_the_confidence(drive: Drive) -> None:
    requests, answer = run(
        drive,
        verifying(0.7),
        lambda r: said(r, "No", p=0.5, Yes=0.3, No=0.1) if r.expert == "dan" else said(r, "(A)"),
    )

    assert requests[1].logprobs == 10
    assert answer.details["stages"][0]["confidence"] == pytest.approx(0.75)
    assert answer.expert == "ann"


@pytest.mark.parametrize("verdict", ["fails", "Who knows?"])
def test_a_verifier_without_a_verdict_accepts_nothing(drive: Drive, verdict: str) -> None:
    replies = {"verify dan": verdict, "ann": "(A)", "ben": "(B)"}

    answer = drive(verifying(0, measure="text"), replies).answer

    assert answer.expert == "ben"
    assert answer.details["stages"][0]["confidence"] is None
    assert [f.expert for f in answer.failures] == (["dan"] if verdict == "fails" else [])


def test_choices_are_asked_from_the_worst_ranked_to_the_best(drive: Drive) -> None:
    cascade = CascadeAggregator(confidence="votes", thresholds=[2, 2])

    ran = drive(cascade, dict.fromkeys(STAGES, "(A)"))

    assert [r.expert for r in ran.requests] == ["cas", "ben", "ann"]


def test_choices_that_the_rule_charged_less_for_are_asked_first(drive: Drive) -> None:
    prices = {"ann": 0.2, "ben": 0.1, "cas": 0.3}
    choices = tuple(Choice(e, 0.9, 0.9 - p, lambda: Evidence("")) for e, p in prices.items())
    cascade = CascadeAggregator(confidence="votes", thresholds=[2, 2])

    ran = drive(
        cascade,
        dict.fromkeys(STAGES, "(A)"),
        selection=replace(drive.selection(), choices=choices),
    )

    assert [r.expert for r in ran.requests] == ["ben", "ann", "cas"]


def test_choices_beyond_the_thresholds_are_left_out_from_the_end_of_the_ranking(
    drive: Drive,
) -> None:
    cascade = CascadeAggregator(confidence="votes", thresholds=[2], order="ranked")

    ran = drive(cascade, dict.fromkeys(STAGES, "(A)"))

    assert [r.expert for r in ran.requests] == ["ann", "ben"]


REPLIES = st.fixed_dictionaries(
    {name: st.sampled_from(["(A)", "(B)", "(C)"]) for name in ("ann", "ben", "cas", "dan")}
)
THRESHOLDS = st.lists(st.floats(0, 1.2), min_size=3, max_size=3)
SHARED_DRIVE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED_DRIVE
@given(REPLIES, THRESHOLDS, st.floats(0, 1))
def test_lower_thresholds_never_ask_more(
    drive: Drive, replies: Mapping[str, str], thresholds: list[float], factor: float
) -> None:
    lower = drive(by_votes(*(each * factor for each in thresholds)), replies)
    higher = drive(by_votes(*thresholds), replies)

    assert len(lower.requests) <= len(higher.requests)
    assert lower.requests == higher.requests[: len(lower.requests)]


@SHARED_DRIVE
@given(REPLIES)
def test_a_threshold_of_0_asks_the_cheapest_alone_and_one_above_1_asks_all(
    drive: Drive, replies: Mapping[str, str]
) -> None:
    assert [r.expert for r in drive(by_votes(0, 0, 0), replies).requests] == ["ann"]
    assert len(drive(by_votes(1.1, 1.1, 1.1), replies).requests) == 4


@SHARED_DRIVE
@given(REPLIES, THRESHOLDS)
def test_the_answer_is_that_of_an_expert_who_was_asked(
    drive: Drive, replies: Mapping[str, str], thresholds: list[float]
) -> None:
    ran = drive(by_votes(*thresholds), replies)

    assert ran.answer.text == replies[ran.answer.expert]
    assert ran.answer.expert in ran.answer.asked


def test_an_expert_may_be_the_verifier_of_its_own_stage(drive: Drive) -> None:
    cascade = CascadeAggregator(
        experts=["ann", "ben"], confidence="verifier", thresholds=[0.5], by="ann", measure="text"
    )

    ran = drive(cascade, {"propose ann": "(A)", "verify ann": "yes"})

    assert [r.id for r in ran.requests] == ["q1/propose/ann", "q1/verify/ann/ann"]
    assert ran.answer.text == "(A)"


def test_a_failure_of_the_verifier_is_reported_beside_its_stage(drive: Drive) -> None:
    def reply(request: Request) -> Outcome:
        if request.expert == "dan":
            return Failure(request.id, "dan", "timeout", "too slow")
        return said(request, "(A)")

    _, answer = run(drive, verifying(0.5), reply)

    assert [(f.expert, f.kind) for f in answer.failures] == [("dan", "timeout")]


def test_equal_query_ids_are_sampled_with_equal_seeds_and_others_with_others(
    drive: Drive,
) -> None:
    cascade = CascadeAggregator(experts=STAGES, confidence="agreement", thresholds=[0, 0])

    def seed(query_id: str) -> int | None:
        query = Query(query_id, drive.query().messages)
        flow = FlowRun(cascade.combine(query, drive.selection(), drive.tools()))
        return flow.start()[0].sampling.seed

    assert seed("a") == seed("a") != seed("b")
