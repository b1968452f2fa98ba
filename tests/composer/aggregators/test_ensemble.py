"""Which level runs, who is asked what, and how their distributions become one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.ensemble.ensemble import EnsembleAggregator
from composer.aggregators.saved import save_learned
from composer.errors import AggregationError, ConfigError
from composer.experts import Expert
from composer.flow import FlowRun, complete_answer
from composer.types import Completion, Failure, Outcome, Request, Sample, TokenLogprob
from tests.composer.aggregators.conftest import CharacterTools, Ran

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from composer.types import Query, Selection
    from tests.composer.aggregators.conftest import Drive

AB = {"ann": "(A)", "ben": "(B)", "cas": "(B)"}
LORAS = {
    "ann": Expert(name="ann", source="x"),
    "ben": Expert(name="ben", base="ann", adapter="b"),
    "cas": Expert(name="cas", base="ann", adapter="c"),
}
STRANGER = {"dan": Expert(name="dan", source="y")}


def scored(request: Request, text: str, nats: float) -> Completion:
    """The text scored as two tokens of the same probability."""
    token = TokenLogprob("?", nats / 2)
    return Completion(request.id, request.expert, (Sample(text, "scored", 2, (token, token)),), 7)


def run(
    aggregator: EnsembleAggregator,
    query: Query,
    selection: Selection,
    said: Mapping[str, str],
    nats: Mapping[tuple[str, str], float],
    writing: Mapping[str, Sequence[float]] | None = None,
) -> Ran:
    """Drive the flow by what experts say, and how likely they find a text; or they fail.

    What is written together is one token; `writing` has each expert's nats by the request's id.
    """
    writing = writing or {}

    def outcome(request: Request) -> Outcome:
        expert, text = request.expert, request.continuation
        if text is not None and (expert, text) in nats:
            return scored(request, text, nats[expert, text])
        if request.peers and request.id in writing:
            return written(request, *writing[request.id])
        if text is None and expert in said and not request.peers:
            sample = Sample(said[expert], "stop", 3)
            return Completion(request.id, expert, (sample,), 7)
        return Failure(request.id, expert, "unavailable", "it is gone")

    flow = FlowRun(aggregator.combine(query, selection, CharacterTools()))
    requests = list(flow.start())
    while not flow.is_done:
        requests += flow.deliver([outcome(request) for request in flow.waiting])
    outcomes = [o for sent in flow.history for o in sent]
    return Ran(tuple(requests), complete_answer(flow.result, selection, outcomes))


def likes(**experts: tuple[float, float]) -> dict[tuple[str, str], float]:
    """Nats of the answers "A" and "B", by expert."""
    return {(e, "AB"[i]): math.log(p) for e, of in experts.items() for i, p in enumerate(of)}


def test_every_expert_scores_every_answer_that_was_proposed(drive: Drive) -> None:
    nats = likes(ann=(0.8, 0.2), ben=(0.4, 0.6), cas=(0.3, 0.7))

    ran = run(EnsembleAggregator(), drive.query(), drive.selection(), AB, nats)

    asked = [(r.expert, r.continuation, r.purpose) for r in ran.requests]
    assert asked == [
        *((e, None, "propose") for e in ("ann", "ben", "cas")),
        *((e, text, "judge") for e in ("ann", "ben", "cas") for text in ("A", "B")),
    ]
    assert all(r.messages == drive.query().messages for r in ran.requests)
    assert not any(r.final for r in ran.requests)


def test_the_answer_of_largest_mean_probability_wins_against_most_voters(drive: Drive) -> None:
    nats = likes(ann=(0.99, 0.01), ben=(0.4, 0.6), cas=(0.45, 0.55))

    answer = run(EnsembleAggregator(), drive.query(), drive.selection(), AB, nats).answer

    assert answer.text == "A"
    assert answer.expert == "ann"
    shares = {"A": (0.99 + 0.4 + 0.45) / 3, "B": (0.01 + 0.6 + 0.55) / 3}
    assert answer.details["shares"] == pytest.approx(shares)
    assert answer.details["level"] == "answer"
    assert answer.details["by_expert"]["ben"] == pytest.approx((0.4, 0.6))
    assert answer.details["prior"] == answer.details["weights"]
    assert answer.details["weights"] == pytest.approx(dict.fromkeys(AB, 1 / 3))
    assert answer.reason == "0.61 of the probability of 2 answers, by ann, ben, cas"


def test_likelihoods_count_by_the_byte(drive: Drive) -> None:
    aggregator = EnsembleAggregator(options=["yes", "naïve"])
    nats = {("ann", "yes"): 3 * math.log(0.2), ("ann", "naïve"): 6 * math.log(0.3)}

    answer = run(aggregator, drive.query(), drive.selection(k=1), {}, nats).answer

    assert answer.details["shares"] == pytest.approx({"yes": 0.4, "naïve": 0.6})


def test_given_options_are_scored_and_nobody_proposes(drive: Drive) -> None:
    nats = likes(ann=(0.2, 0.8), ben=(0.4, 0.6), cas=(0.7, 0.3))

    ran = run(EnsembleAggregator(options=["A", "B"]), drive.query(), drive.selection(), AB, nats)

    assert {r.purpose for r in ran.requests} == {"judge"}
    assert ran.answer.text == "B"
    assert ran.answer.expert == "ann"
    assert ran.answer.finish_reason == "stop"


def test_where_all_propose_the_same_nothing_is_scored(drive: Drive) -> None:
    said = {"ann": "(B)", "ben": "Answer: B", "cas": "Who knows?"}

    answer = run(EnsembleAggregator(), drive.query(), drive.selection(), said, {}).answer

    assert answer.text == "B"
    assert answer.details["shares"] == pytest.approx({"B": 1.0})
    assert answer.details["abstained"] == ("cas",)
    assert answer.reason == "all that answered agree: 2 of 3 experts"


def test_one_without_an_answer_of_its_own_still_scores(drive: Drive) -> None:
    nats = likes(ann=(0.6, 0.4), ben=(0.4, 0.6), cas=(0.1, 0.9))

    answer = run(
        EnsembleAggregator(), drive.query(), drive.selection(), {**AB, "cas": "Hm."}, nats
    ).answer

    assert answer.text == "B"
    assert answer.expert == "ben"


def test_equally_likely_answers_go_to_the_best_ranked_proposer(drive: Drive) -> None:
    nats = likes(ann=(0.5, 0.5), ben=(0.5, 0.5), cas=(0.5, 0.5))

    answer = run(EnsembleAggregator(), drive.query(), drive.selection(), AB, nats).answer

    assert answer.text == "A"


def test_a_prior_weighs_the_experts(drive: Drive) -> None:
    nats = likes(ann=(0.9, 0.1), ben=(0.3, 0.7), cas=(0.3, 0.7))
    prior = {"ann": 2.0, "ben": 1, "cas": 1, "dan": 9.0}

    answer = run(EnsembleAggregator(prior=prior), drive.query(), drive.selection(), AB, nats).answer

    assert answer.details["prior"] == pytest.approx({"ann": 0.5, "ben": 0.25, "cas": 0.25})
    assert answer.details["shares"] == pytest.approx({"A": 0.6, "B": 0.4})


def test_only_the_top_k_of_the_prior_are_asked(drive: Drive) -> None:
    prior = {"ann": 1.0, "ben": 3.0, "cas": 2.0}
    nats = likes(ben=(0.9, 0.1), cas=(0.3, 0.7))

    ran = run(EnsembleAggregator(prior=prior, top_k=2), drive.query(), drive.selection(), AB, nats)

    assert {r.expert for r in ran.requests} == {"ben", "cas"}
    assert ran.answer.details["prior"] == pytest.approx({"ben": 0.6, "cas": 0.4})
    assert ran.answer.saved == ("ann",)


def test_whoever_finds_the_query_likelier_counts_more(drive: Drive) -> None:
    query = drive.query("Is it A or B?")
    nats = likes(ann=(0.9, 0.1), ben=(0.1, 0.9), cas=(0.1, 0.9)) | {
        ("ann", query.text): -10.0,
        ("ben", query.text): -30.0,
        ("cas", query.text): -30.0,
    }

    ran = run(EnsembleAggregator(tau=0.1), query, drive.selection(), AB, nats)

    total = 1 + 2 * math.exp(-2)
    weights = {"ann": 1 / total, "ben": math.exp(-2) / total, "cas": math.exp(-2) / total}
    assert ran.answer.details["weights"] == pytest.approx(weights)
    assert ran.answer.text == "A"
    read = [r for r in ran.requests if r.purpose == "annotate"]
    assert [(r.expert, r.continuation) for r in read] == [(e, query.text) for e in AB]
    assert all(r.messages != query.messages for r in read)


def test_an_expert_that_fails_to_score_is_left_out(drive: Drive) -> None:
    nats = likes(ann=(0.9, 0.1), ben=(0.3, 0.7), cas=(0.4, 0.6))
    del nats["ann", "B"]

    answer = run(EnsembleAggregator(), drive.query(), drive.selection(), AB, nats).answer

    assert answer.details["shares"] == pytest.approx({"A": 0.35, "B": 0.65})
    assert answer.details["failed"] == ("ann",)
    assert [f.request_id for f in answer.failures] == ["q1/judge/ann/2"]


def test_an_expert_that_fails_to_propose_is_not_asked_to_score(drive: Drive) -> None:
    nats = likes(ben=(0.3, 0.7), cas=(0.4, 0.6))

    ran = run(
        EnsembleAggregator(),
        drive.query(),
        drive.selection(),
        {"ben": "(A)", "cas": "(B)"},
        nats,
    )

    assert {r.expert for r in ran.requests if r.purpose == "judge"} == {"ben", "cas"}
    assert ran.answer.text == "B"
    assert ran.answer.details["prior"] == pytest.approx(dict.fromkeys(AB, 1 / 3))
    assert ran.answer.details["weights"] == pytest.approx({"ben": 0.5, "cas": 0.5})


def test_when_nobody_scores_the_best_proposal_is_the_answer(drive: Drive) -> None:
    answer = run(EnsembleAggregator(), drive.query(), drive.selection(), AB, {}).answer

    assert answer.text == "A"
    assert answer.reason == (
        "the best-ranked proposal, because no expert scored the answers: "
        "ann: it is gone; ben: it is gone; cas: it is gone"
    )
    assert answer.details["weights"] == {}


def test_given_options_that_nobody_scores_are_an_error_that_names_each_expert(
    drive: Drive,
) -> None:
    aggregator = EnsembleAggregator(options=["A", "B"])

    with pytest.raises(AggregationError) as caught:
        run(aggregator, drive.query(), drive.selection(), AB, {})

    assert str(caught.value) == (
        "no expert scored the options: ann: it is gone; ben: it is gone; cas: it is gone"
    )


def test_no_answer_of_the_type_is_an_error_that_names_the_silent(drive: Drive) -> None:
    with pytest.raises(AggregationError, match="type 'choice': cas: it is gone; ann: gave no such"):
        run(
            EnsembleAggregator(),
            drive.query(),
            drive.selection(),
            {"ann": "Hm.", "ben": "Hm."},
            {},
        )


def test_a_score_without_log_probabilities_counts_as_a_failure(drive: Drive) -> None:
    ran = drive(
        EnsembleAggregator(options=["A", "B"]),
        {"ann": "A"},
        selection=drive.selection(k=1),
    )
    assert ran.answer.details["weights"] == {"ann": 1.0}

    flow = EnsembleAggregator(options=["A", "B"]).combine(
        drive.query(), drive.selection(k=1), drive.tools()
    )
    driven = FlowRun(flow)
    mute = [Completion(r.id, r.expert, (Sample("A", "scored", 1),), 7) for r in driven.start()]
    with pytest.raises(AggregationError, match="ann: it gave no finite log-probabilities"):
        driven.deliver(mute)


def test_the_type_of_the_query_goes_before_that_of_the_aggregator(drive: Drive) -> None:
    query = replace(drive.query(), answer_type="number")
    said = {"ann": "41", "ben": "The answer is 42.", "cas": "42"}
    nats = {(e, n): -1.0 if n == "42" else -9.0 for e in said for n in ("41", "42")}

    answer = run(EnsembleAggregator(), query, drive.selection(), said, nats).answer

    assert answer.text == "42"


def test_texts_are_scored_and_answered_in_their_experts_own_words(drive: Drive) -> None:
    said = {"ann": "Rome", "ben": "The  Hague.", "cas": "the hague"}
    nats = {(e, t): -1.0 if "H" in t else -9.0 for e in said for t in ("Rome", "The  Hague.")}

    answer = run(
        EnsembleAggregator(answer_type="text"), drive.query(), drive.selection(), said, nats
    ).answer

    assert answer.text == "The  Hague."
    assert answer.expert == "ben"


def written(request: Request, *nats: float) -> Completion:
    """A text of one token that the group wrote, and each expert's log-probability of it."""
    samples = [
        Sample("42", "stop", 1, (TokenLogprob("42", -0.3),)),
        *(Sample("42", "scored", 1, (TokenLogprob("42", n),)) for n in nats),
    ]
    return Completion(request.id, request.expert, tuple(samples), 21)


def test_level_token_is_one_streamed_request_to_the_group(drive: Drive) -> None:
    flow = FlowRun(
        EnsembleAggregator(level="token").combine(drive.query(), drive.selection(), drive.tools())
    )

    (request,) = flow.start()
    flow.deliver([written(request, math.log(0.2), math.log(0.4), math.log(0.2))])

    assert (request.expert, request.peers, request.mix) == ("ann", ("ben", "cas"), "average")
    assert request.weights == pytest.approx((1 / 3,) * 3)
    assert request.final
    assert request.messages == drive.query().messages
    assert flow.result.text == "42"
    assert flow.result.details["level"] == "token"
    assert flow.result.details["prior"] == pytest.approx(dict.fromkeys(AB, 1 / 3))
    weights = {"ann": 0.25, "ben": 0.5, "cas": 0.25}
    assert flow.result.details["weights"] == pytest.approx(weights)


def test_a_mixture_of_one_is_that_expert(drive: Drive) -> None:
    ran = drive(EnsembleAggregator(level="token"), {"ann": "42"}, selection=drive.selection(k=1))

    (request,) = ran.requests
    assert (request.expert, request.peers, request.mix) == ("ann", (), None)
    assert request.weights == ()
    assert ran.answer.details["weights"] == {"ann": 1.0}
    assert ran.answer.reason == "ann wrote it, the only expert that counts"


def test_a_text_of_all_begins_with_the_prior(drive: Drive) -> None:
    aggregator = EnsembleAggregator(level="token", prior={"ann": 2.0, "ben": 1, "cas": 1})
    nats = {"q1/aggregate/ann": [math.log(p) for p in (0.2, 0.4, 0.2)]}

    ran = run(aggregator, drive.query(), drive.selection(), {}, {}, nats)

    (request,) = ran.requests
    assert request.weights == pytest.approx((0.5, 0.25, 0.25))
    prior = {"ann": 0.5, "ben": 0.25, "cas": 0.25}
    assert ran.answer.details["prior"] == pytest.approx(prior)
    assert ran.answer.details["weights_at_start"] == pytest.approx(prior)
    weights = {"ann": 0.4, "ben": 0.4, "cas": 0.2}
    assert ran.answer.details["weights"] == pytest.approx(weights)
    assert ran.answer.reason == "ann, ben, cas wrote it together, token by token"


def test_a_fitted_prior_weighs_experts_that_write_together(tmp_path: Path, drive: Drive) -> None:
    save_learned(tmp_path, "ensemble", {"prior": {"ann": 0.5, "ben": 0.25, "cas": 0.25}})
    aggregator = EnsembleAggregator(level="token", from_=str(tmp_path))

    (request,) = FlowRun(
        aggregator.combine(drive.query(), drive.selection(), drive.tools())
    ).start()

    assert request.weights == pytest.approx((0.5, 0.25, 0.25))


def test_only_the_top_k_of_the_prior_write_together(drive: Drive) -> None:
    aggregator = EnsembleAggregator(
        level="token", prior={"ann": 1.0, "ben": 3.0, "cas": 2.0}, top_k=2
    )
    nats = {"q1/aggregate/ben": (-1.0, -1.0)}

    ran = run(aggregator, drive.query(), drive.selection(), {}, {}, nats)

    (request,) = ran.requests
    assert (request.expert, request.peers) == ("ben", ("cas",))
    assert request.weights == pytest.approx((0.6, 0.4))
    assert set(ran.answer.details["prior"]) == {"ben", "cas"}


def test_whoever_finds_the_query_likelier_counts_more_from_the_first_token(drive: Drive) -> None:
    query = drive.query("Is it A or B?")
    nats = {("ann", query.text): -10.0, ("ben", query.text): -30.0, ("cas", query.text): -30.0}
    aggregator = EnsembleAggregator(
        level="token", prior={"ann": 1.0, "ben": 2.0, "cas": 1.0}, tau=0.1
    )
    writing = {"q1/aggregate/ann": [math.log(p) for p in (0.1, 0.1, 0.2)]}

    ran = run(aggregator, query, drive.selection(), {}, nats, writing)

    *read, wrote = ran.requests
    assert [(r.expert, r.continuation, r.purpose) for r in read] == [
        (e, query.text, "annotate") for e in AB
    ]
    total = 1 + 3 * math.exp(-2)
    weights = (1 / total, 2 * math.exp(-2) / total, math.exp(-2) / total)
    assert wrote.weights == pytest.approx(weights)
    details = ran.answer.details
    assert details["prior"] == pytest.approx({"ann": 0.25, "ben": 0.5, "cas": 0.25})
    assert details["weights_at_start"] == pytest.approx(dict(zip(AB, weights, strict=True)))
    total = 1 + 4 * math.exp(-2)
    after = {"ann": 1 / total, "ben": 2 * math.exp(-2) / total, "cas": 2 * math.exp(-2) / total}
    assert details["weights"] == pytest.approx(after)


def test_both_levels_ask_for_the_same_reading_of_the_query(drive: Drive) -> None:
    query = drive.query()
    nats = likes(ann=(0.9, 0.1), ben=(0.1, 0.9), cas=(0.1, 0.9)) | {(e, query.text): -1 for e in AB}
    asked: list[list[Request]] = []

    for settings in ({"level": "token"}, {"options": ["A", "B"]}):
        aggregator: Any = make_aggregator("ensemble", {"tau": 0.5, **settings})
        ran = run(aggregator, query, drive.selection(), AB, nats, {"q1/aggregate/ann": (-1,) * 3})
        asked.append([r for r in ran.requests if r.purpose == "annotate"])

    assert asked[0] == asked[1]
    assert len(asked[0]) == 3


def test_an_expert_that_cannot_read_the_query_does_not_write(drive: Drive) -> None:
    query = drive.query()
    nats = {("ben", query.text): -3.0, ("cas", query.text): -3.0}
    aggregator = EnsembleAggregator(level="token", tau=1.0)

    ran = run(aggregator, query, drive.selection(), {}, nats, {"q1/aggregate/ben": (-1.0, -1.0)})

    wrote = ran.requests[-1]
    assert (wrote.expert, wrote.peers) == ("ben", ("cas",))
    assert wrote.weights == pytest.approx((0.5, 0.5))
    assert ran.answer.details["failed"] == ("ann",)
    assert ran.answer.details["weights"] == pytest.approx({"ben": 0.5, "cas": 0.5})
    assert [f.request_id for f in ran.answer.failures] == ["q1/annotate/ann"]


def test_a_reading_that_is_no_number_counts_as_a_failure(drive: Drive) -> None:
    query = drive.query()
    nats = {("ann", query.text): math.nan, ("ben", query.text): -3.0, ("cas", query.text): -3.0}
    aggregator = EnsembleAggregator(level="token", tau=1.0)

    ran = run(aggregator, query, drive.selection(), {}, nats, {"q1/aggregate/ben": (-1.0, -1.0)})

    assert ran.answer.details["weights_at_start"] == {"ben": 0.5, "cas": 0.5}
    assert [f.kind for f in ran.answer.failures] == ["bad_output"]


def test_an_expert_whose_weight_rounds_to_nothing_does_not_write(drive: Drive) -> None:
    query = drive.query()
    nats = {("ann", query.text): -9000.0, ("ben", query.text): -3.0, ("cas", query.text): -3.0}
    aggregator = EnsembleAggregator(level="token", tau=1.0)

    ran = run(aggregator, query, drive.selection(), {}, nats, {"q1/aggregate/ben": (-1.0, -1.0)})

    assert ran.requests[-1].peers == ("cas",)
    assert ran.answer.details["weights_at_start"] == {"ann": 0.0, "ben": 0.5, "cas": 0.5}
    assert ran.answer.details["weights"] == {"ann": 0.0, "ben": 0.5, "cas": 0.5}
    assert ran.answer.failures == ()


def test_nobody_reads_the_query_for_one_expert_or_without_a_text(drive: Drive) -> None:
    aggregator = EnsembleAggregator(level="token", tau=1.0)
    of_one = FlowRun(aggregator.combine(drive.query(), drive.selection(k=1), drive.tools()))
    empty = FlowRun(aggregator.combine(drive.query(""), drive.selection(), drive.tools()))

    assert [r.purpose for r in of_one.start()] == ["aggregate"]
    assert [r.purpose for r in empty.start()] == ["aggregate"]


def test_where_nobody_can_read_the_query_the_ranking_answers_one_by_one(drive: Drive) -> None:
    aggregator = EnsembleAggregator(level="token", tau=1.0)

    ran = run(aggregator, drive.query(), drive.selection(), {"ben": "42"}, {})

    assert [r.id for r in ran.requests][3:] == ["q1/propose/ann", "q1/propose/ben"]
    assert ran.answer.text == "42"
    assert ran.answer.details["level"] == "none"
    assert ran.answer.reason == (
        "ben wrote it alone, because no expert read the query: "
        "ann: it is gone; ben: it is gone; cas: it is gone"
    )
    assert len(ran.answer.failures) == 4


def test_where_the_mixture_fails_the_ranking_answers_one_by_one(drive: Drive) -> None:
    ran = run(
        EnsembleAggregator(level="token"), drive.query(), drive.selection(), {"ben": "42"}, {}
    )

    assert [r.id for r in ran.requests] == [
        "q1/aggregate/ann",
        "q1/propose/ann",
        "q1/propose/ben",
    ]
    assert all(r.final for r in ran.requests)
    assert ran.answer.text == "42"
    assert ran.answer.details["level"] == "none"
    assert ran.answer.reason == ("ben wrote it alone, because the mixture failed: it is gone")
    assert [f.request_id for f in ran.answer.failures] == ["q1/aggregate/ann", "q1/propose/ann"]


def test_a_mixture_that_fails_with_all_experts_is_an_error_that_names_each(drive: Drive) -> None:
    with pytest.raises(AggregationError, match="ann: it is gone; ann: it is gone; ben: it is gone"):
        run(EnsembleAggregator(level="token"), drive.query(), drive.selection(), {}, {})


@pytest.mark.parametrize(
    ("settings", "ranking", "level"),
    [
        ({}, ("ann", "ben", "cas"), "token"),
        ({}, ("ann", "dan"), "answer"),
        ({}, ("dan",), "token"),
        ({"level": "answer"}, ("ann", "ben"), "answer"),
        ({"options": ["A", "B"]}, ("ann", "ben"), "answer"),
        ({"tau": 0.1}, ("ann", "ben"), "token"),
        ({"tau": 0.1}, ("ann", "dan"), "answer"),
        ({"prior": dict.fromkeys(("ann", "ben", "cas", "dan"), 1.0)}, ("ann", "ben"), "token"),
        ({"prior": dict.fromkeys(("ann", "ben", "cas", "dan"), 1.0)}, ("ann", "dan"), "answer"),
        ({"top_k": 2}, ("ann", "ben", "dan"), "token"),
    ],
)
def test_auto_is_token_where_one_engine_holds_all_that_are_asked(
    settings: dict[str, Any], ranking: tuple[str, ...], level: str, drive: Drive
) -> None:
    aggregator = EnsembleAggregator(**settings)
    aggregator.check(LORAS | STRANGER, 3)
    flow = FlowRun(
        aggregator.combine(drive.query(), drive.selection(ranking=ranking), drive.tools())
    )

    first, *_ = flow.start()

    assert ("token" if first.purpose in {"aggregate", "annotate"} else "answer") == level


def test_unchecked_experts_are_not_taken_to_share_an_engine(drive: Drive) -> None:
    ran = run(EnsembleAggregator(), drive.query(), drive.selection(), {"ann": "(A)"}, {})

    assert ran.answer.details["level"] == "answer"


def test_engines_that_cannot_mix_are_answered_by_their_answers(drive: Drive) -> None:
    aggregator = EnsembleAggregator()
    aggregator.check({"ann": Expert(name="ann", engine="scripted")}, 1)

    ran = drive(aggregator, {"ann": "(A)"}, selection=drive.selection(k=1))

    assert ran.answer.details["level"] == "answer"


def test_level_token_over_experts_of_several_engines_is_refused() -> None:
    aggregator = EnsembleAggregator(level="token")

    aggregator.check(LORAS, 3)
    aggregator.check(LORAS | STRANGER, 1)
    with pytest.raises(ConfigError, match="'ann' and 'dan' are not on one engine; make all") as e:
        aggregator.check(LORAS | STRANGER, 2)

    assert "\n" not in str(e.value)


def test_engines_are_asked_for_what_the_level_needs() -> None:
    assert EnsembleAggregator(level="token").needs == {"peers"}
    assert EnsembleAggregator(level="token", tau=0.1).needs == {"peers", "continuation"}
    assert EnsembleAggregator(level="answer").needs == {"continuation"}
    assert EnsembleAggregator().needs == {"continuation"}


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"ann": 1.0, "ben": 1.0}, "the prior has no 'cas'"),
        ({**dict.fromkeys(LORAS, 1.0), "can": 1.0}, "no expert 'can'; did you mean 'cas'"),
    ],
)
def test_a_prior_is_over_the_experts_of_the_file(prior: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EnsembleAggregator(prior=prior).check(LORAS, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": ["A"]}, "give two different texts or more"),
        ({"options": ["A", "A"]}, "give two different texts or more"),
        ({"options": ["A", " "]}, "give two different texts or more"),
        ({"tau": 1.5}, "set it from 0 to 1"),
        ({"tau": -0.1}, "set it from 0 to 1"),
        ({"top_k": 0}, "set 1 or more"),
        ({"prior": {"ann": 0.0}}, "the prior of 'ann' is 0.0"),
        ({"prior": {"ann": 1.0}, "from": "x"}, "has 'prior' and 'from'"),
        ({"level": "token", "options": ["A", "B"]}, "'options' is for level 'answer'"),
        ({"level": "word"}, "'level' cannot be 'word'"),
        ({"from": "nowhere"}, "holds no saved aggregator"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_aggregator("ensemble", settings)

    assert "\n" not in str(caught.value)


def test_a_fitted_prior_weighs_the_experts(tmp_path: Path, drive: Drive) -> None:
    save_learned(tmp_path, "ensemble", {"prior": {"ann": 0.5, "ben": 0.25, "cas": 0.25}})
    nats = likes(ann=(0.9, 0.1), ben=(0.3, 0.7), cas=(0.3, 0.7))

    answer = run(
        EnsembleAggregator(from_=str(tmp_path)), drive.query(), drive.selection(), AB, nats
    ).answer

    assert answer.details["prior"] == pytest.approx({"ann": 0.5, "ben": 0.25, "cas": 0.25})
