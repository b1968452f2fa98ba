"""The first choice answers, or whoever comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.aggregators.best import BestAggregator

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive


def test_only_the_first_choice_is_asked_while_it_answers(drive: Drive) -> None:
    ran = drive(BestAggregator(), {"ann": "42", "ben": "41"})

    assert [r.id for r in ran.requests] == ["q1/propose/ann"]
    assert ran.requests[0].messages == drive.query().messages
    assert ran.answer.text == "42"
    assert ran.answer.expert == "ann"
    assert ran.answer.reason == "the first choice answered"


def test_every_request_is_the_answer_in_the_making(drive: Drive) -> None:
    ran = drive(BestAggregator(), {"cas": "42"})

    assert all(r.final for r in ran.requests)


def test_failures_are_walked_past_down_the_ranking_beyond_the_choices(drive: Drive) -> None:
    ran = drive(BestAggregator(), {"dan": "42"}, selection=drive.selection(k=1))

    assert [r.expert for r in ran.requests] == ["ann", "ben", "cas", "dan"]
    assert ran.answer.expert == "dan"
    assert ran.answer.reason == "answered after ann, ben, cas failed"
    assert [f.expert for f in ran.answer.failures] == ["ann", "ben", "cas"]
