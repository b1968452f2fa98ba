"""Who votes, what counts, and who wins."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.aggregators.vote import VoteAggregator
from composer.errors import AggregationError

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive


def test_the_answer_of_most_experts_wins(drive: Drive) -> None:
    answer = drive(VoteAggregator(), {"ann": "(A)", "ben": "It is (B)", "cas": "Answer: B"}).answer

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
