"""Who votes, what counts, and who wins."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.aggregators.vote import VoteAggregator
from composer.errors import AggregationError, ConfigError
from tests.composer.aggregators.voting import run_one_by_one

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive


def test_the_answer_of_most_experts_wins(drive: Drive) -> None:
    answer = drive(
        VoteAggregator(), {"ann": "(A)", "ben": "The answer is (B)", "cas": "Answer: B"}
    ).answer

    assert answer.text == "B"
    assert answer.expert == "ben"
    assert answer.reason == "2 of 3 votes"
    assert answer.details["tally"] == {"B": ("ben", "cas"), "A": ("ann",)}


def test_all_choices_are_asked_at_once_and_none_is_streamed(drive: Drive) -> None:
    ran = drive(VoteAggregator(), {"ann": "A", "ben": "A", "cas": "A"})

    assert [r.id for r in ran.requests] == ["q1/propose/ann", "q1/propose/ben", "q1/propose/cas"]
    assert not any(r.final for r in ran.requests)


def test_a_tie_goes_to_the_answer_whose_best_voter_ranks_highest(drive: Drive) -> None:
    replies = {"ann": "C", "ben": "B", "cas": "B", "dan": "C"}

    answer = drive(VoteAggregator(), replies, selection=drive.selection(k=4)).answer

    assert answer.text == "C"
    assert answer.expert == "ann"
    assert answer.reason == "2 of 4 votes, tied with 'B': ann ranks highest"


def test_an_abstention_is_not_counted(drive: Drive) -> None:
    answer = drive(
        VoteAggregator(), {"ann": "I do not know.", "ben": "Who does?", "cas": "(D)"}
    ).answer

    assert answer.text == "D"
    assert answer.reason == "1 of 1 votes"
    assert answer.details["abstained"] == ("ann", "ben")


def test_a_failed_voter_is_replaced_by_the_next_of_the_ranking(drive: Drive) -> None:
    ran = drive(VoteAggregator(), {"ann": "A", "ben": "fails", "cas": "B", "dan": "B"})

    assert [r.expert for r in ran.requests] == ["ann", "ben", "cas", "dan"]
    assert ran.answer.text == "B"
    assert ran.answer.details["failed"] == ("ben",)


def test_an_abstaining_voter_is_not_replaced(drive: Drive) -> None:
    ran = drive(VoteAggregator(), {"ann": "A", "ben": "Well.", "cas": "A", "dan": "B"})

    assert "dan" not in {r.expert for r in ran.requests}


def test_when_the_ranking_ends_those_who_answered_decide(drive: Drive) -> None:
    ran = drive(VoteAggregator(), {"cas": "A"})

    assert ran.answer.text == "A"
    assert [f.expert for f in ran.answer.failures] == ["ann", "ben", "dan"]


def test_nobody_with_a_typed_answer_is_an_error_that_quotes_them(drive: Drive) -> None:
    replies = {"ann": "It is\nhard.", "ben": "word " * 50}

    with pytest.raises(AggregationError) as caught:
        drive(VoteAggregator(), replies)

    message = str(caught.value)
    assert message.startswith("no expert gave an answer of type 'choice': ann said 'It is hard.'")
    assert "cas: it is gone" in message
    assert "word..." in message
    assert len(message) < 300


def test_the_type_of_the_query_goes_before_that_of_the_aggregator(drive: Drive) -> None:
    query = replace(drive.query(), answer_type="number")

    answer = drive(
        VoteAggregator(answer_type="choice"),
        {"ann": "41", "ben": "The answer is 42.", "cas": "42.0"},
        query=query,
    ).answer

    assert answer.text == "42"
    assert answer.details["answer_type"] == "number"


def test_yes_or_no_is_voted_on(drive: Drive) -> None:
    replies = {"ann": "No, never.", "ben": "Yes.", "cas": "yes"}

    assert drive(VoteAggregator(answer_type="yes_no"), replies).answer.text == "yes"


def test_a_vote_on_texts_gives_the_best_voters_own_words(drive: Drive) -> None:
    replies = {"ann": "Rome", "ben": "The  Hague.", "cas": "the hague"}

    answer = drive(VoteAggregator(answer_type="text"), replies).answer

    assert answer.text == "The  Hague."
    assert answer.expert == "ben"
    assert answer.details["tally"] == {"hague": ("ben", "cas"), "rome": ("ann",)}


def test_a_tie_is_no_answer_where_ties_abstain(drive: Drive) -> None:
    replies = {"ann": "C", "ben": "B", "cas": "B", "dan": "C"}

    with pytest.raises(AggregationError, match="tied: 'C' by ann, dan; 'B' by ben, cas"):
        drive(VoteAggregator(ties="abstain"), replies, selection=drive.selection(k=4))


def test_a_majority_wins_where_ties_abstain(drive: Drive) -> None:
    replies = {"ann": "C", "ben": "B", "cas": "B"}

    assert drive(VoteAggregator(ties="abstain"), replies).answer.text == "B"


def test_the_scores_of_a_majority_are_votes(drive: Drive) -> None:
    answer = drive(VoteAggregator(), {"ann": "C", "ben": "B", "cas": "B"}).answer

    assert answer.details["scores"] == {"B": 2.0, "C": 1.0}
    assert answer.details["stopped_early"] is False


def test_with_a_quorum_all_choices_are_asked_at_once_and_the_late_are_let_go(drive: Drive) -> None:
    replies = {"ann": "B", "ben": "C", "cas": "B", "dan": "C"}

    ran = run_one_by_one(VoteAggregator(quorum="exact"), replies, drive)

    assert ran.answer.text == "B"
    assert ran.answer.asked == ("ann", "ben", "cas")
    assert ran.answer.saved == ("dan",)
    assert ran.answer.details["stopped_early"] is True
    assert ran.answer.details["unanswered"] == ("dan",)
    assert ran.answer.reason == ("2 of 3 votes, without waiting for dan: it stays the winner")
    assert [r.expert for r in ran.requests] == ["ann", "ben", "cas", "dan"]


def test_a_winner_that_is_likely_enough_to_stay_ends_a_vote(drive: Drive) -> None:
    replies = dict.fromkeys(drive.ranking, "B")

    ran = run_one_by_one(VoteAggregator(quorum="posterior", threshold=0.8), replies, drive)

    assert ran.answer.asked == ("ann",)
    assert ran.answer.reason.endswith("it stays the winner with a probability of 0.84")


def test_with_a_quorum_a_failed_voter_is_not_replaced(drive: Drive) -> None:
    ran = drive(VoteAggregator(quorum="exact"), {"ann": "A", "ben": "fails", "cas": "A"})

    assert "dan" not in {r.expert for r in ran.requests}
    assert ran.answer.text == "A"


def test_with_a_quorum_a_prompt_too_long_is_a_voter_that_failed(drive: Drive) -> None:
    replies = dict.fromkeys(drive.ranking, "B")

    ran = drive(VoteAggregator(quorum="exact"), replies, limits={"ann": 5})

    assert [r.expert for r in ran.requests] == ["ben", "cas"]
    assert ran.answer.details["failed"] == ("ann",)


def test_with_a_quorum_nobody_who_answers_is_an_error_that_names_all(drive: Drive) -> None:
    with pytest.raises(AggregationError) as caught:
        drive(VoteAggregator(quorum="exact"), {})

    assert all(f"{expert}: it is gone" in str(caught.value) for expert in ("ann", "ben", "cas"))


def test_a_tie_that_may_still_be_broken_is_waited_on_where_ties_abstain(drive: Drive) -> None:
    replies = {"ann": "B", "ben": "C", "cas": "B", "dan": "C"}

    by_rank = run_one_by_one(VoteAggregator(quorum="exact"), replies, drive)

    assert by_rank.answer.asked == ("ann", "ben", "cas")
    with pytest.raises(AggregationError, match="tied"):
        run_one_by_one(VoteAggregator(quorum="exact", ties="abstain"), replies, drive)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"quorum": "posterior", "threshold": 0.0}, "set one above 0 and up to 1"),
        ({"quorum": "posterior", "threshold": 1.1}, "set one above 0 and up to 1"),
        ({"quorum": "posterior", "threshold": float("nan")}, "set one above 0 and up to 1"),
        ({"quorum": "exact", "threshold": 0.5}, "set the quorum to 'posterior'"),
        ({"threshold": 0.5}, "set the quorum to 'posterior'"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused_in_one_line(rules: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        VoteAggregator(**rules)

    assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("ABC"), min_size=4, max_size=4))
def test_without_a_tie_the_order_of_the_experts_does_not_matter(
    drive: Drive, said: list[str]
) -> None:
    replies = dict(zip(drive.ranking, said, strict=True))
    counts = [n for _, n in Counter(said).most_common(2)]
    selections = [drive.selection(4, order) for order in itertools.permutations(drive.ranking)]

    answers = [drive(VoteAggregator(), replies, selection=s).answer for s in selections]

    if len(counts) == 1 or counts[0] > counts[1]:
        assert {a.text for a in answers} == {Counter(said).most_common(1)[0][0]}
    for selection, answer in zip(selections, answers, strict=True):
        most = [letter for letter, n in Counter(said).items() if n == counts[0]]
        assert answer.text == next(replies[e] for e in selection.ranking if replies[e] in most)
        assert replies[answer.expert] == answer.text
