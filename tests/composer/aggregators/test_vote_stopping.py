"""What counts of recorded votes, and when one of them could have ended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from composer.aggregators.vote.ballots import Ballots, Weights, make_ballots
from composer.aggregators.vote.stopping import Course, choose_threshold, fit_staying, run_course
from composer.outcomes import OutcomeTable
from composer.outcomes.table import NOT_RECORDED
from tests.composer.aggregators.voting import recorded


def ballots_of(table: OutcomeTable, n_options: int | None = None) -> Ballots:
    return make_ballots(table, "choice", n_options)


def test_an_answer_is_right_where_a_voter_scored_1() -> None:
    ballots = ballots_of(recorded([("AAB", "A"), ("BCB", "D"), ("-B-", "B")]))

    assert ballots.is_usable.all()
    assert ballots.right.tolist() == [1, 0, 0, 0, 1]


def test_answers_that_say_the_same_are_votes_for_one_option() -> None:
    table = recorded([("AB", "A"), ("CA", "A")], ("ann", "ben"))
    assert table.answers is not None
    table = replace(table, answers=replace(table.answers, values=("42", "42.0", "none")))

    ballots = make_ballots(table, "number", None)

    assert ballots.options == ("42",)
    assert ballots.query.tolist() == [0, 1]
    assert ballots.vote_answer.tolist() == [0, 0, 1]


def test_a_query_whose_right_answer_may_be_any_of_several_does_not_count() -> None:
    table = recorded([("AAB", "A"), ("BCB", "D"), ("ABC", "A")])
    score = table.score.copy()
    score[1, 1] = np.nan
    score[2, 0] = np.nan
    table = replace(table, score=score)

    assert ballots_of(table).is_usable.tolist() == [True, False, False]


def test_a_right_expert_whose_answer_is_not_recorded_may_have_given_any() -> None:
    table = recorded([("AAB", "A"), ("ABC", "A")])
    assert table.answers is not None
    codes = table.answers.codes.copy()
    codes[1, 0] = NOT_RECORDED
    table = replace(table, answers=replace(table.answers, codes=codes))

    assert ballots_of(table).is_usable.tolist() == [True, False]


def test_where_all_options_were_given_and_are_wrong_the_query_does_not_count() -> None:
    ballots = ballots_of(recorded([("AA", "A"), ("AB", "C")], ("ann", "ben")), 2)

    assert ballots.is_usable.tolist() == [True, False]


def test_an_option_nobody_has_given_yet_is_a_rival_by_its_constant() -> None:
    ballots = ballots_of(recorded([("AB", "A")], ("ann", "ben"))).without_categories()

    course = run_course(ballots, Weights(np.array([[2.0, 1.0]]), np.array([0.0, 1.5])))

    assert course.share[0, 0] == 0.5


def test_the_lead_is_weighed_against_the_votes_still_out() -> None:
    ballots = ballots_of(recorded([("AAB", "A"), ("BAA", "A")])).without_categories()
    weights = Weights(np.array([[2.0, 1.0, 1.5]]), np.zeros(2))

    course = run_course(ballots, weights)

    assert course.share.tolist() == [[2 / 2.5, 0.5 / 1, np.inf], [2 / 2.5, 0.5 / 1, np.inf]]
    assert course.is_right.tolist() == [[True, True, True], [False, False, True]]


def course(shares: list[list[float]], is_right: list[list[bool]]) -> Course:
    """Where the last winner is right: then the right ones, and only these, stay."""
    return Course(np.array(shares), np.array(is_right), np.array(is_right))


def least_lead(held_out: Course, fitted: Course, max_loss: float) -> float:
    """The lead that the threshold is the probability of."""
    stopping = choose_threshold(held_out, fitted, max_loss)
    return round(stopping.staying.share(stopping.threshold), 6)


def test_the_larger_the_lead_the_likelier_it_stays() -> None:
    rng = np.random.default_rng(0)
    leads = rng.uniform(0, 1, (4000, 1))
    stays = rng.uniform(size=leads.shape) < 1 / (1 + np.exp(-(3 * leads - 1)))

    staying = fit_staying(Course(leads, stays, stays))

    assert staying.intercept == pytest.approx(-1, abs=0.2)
    assert staying.slope == pytest.approx(3, abs=0.3)


def test_winners_that_no_lead_keeps_have_a_curve_that_still_rises() -> None:
    leads = np.linspace(0, 0.9, 50)[:, None]

    assert fit_staying(Course(leads, leads < 0.5, leads < 0.5)).slope > 0


def test_the_lowest_threshold_within_the_loss_is_chosen() -> None:
    early = course(
        [[0.31, np.inf]] * 10 + [[0.11, np.inf]] * 10, [[True, True]] * 10 + [[False, True]] * 10
    )

    stopping = choose_threshold(early, early, max_loss=0.0)

    assert stopping.staying.share(stopping.threshold) == pytest.approx(0.12)
    assert stopping.accuracy == 1.0
    assert stopping.calls == 0.75


def test_a_threshold_must_do_for_the_weights_in_use_too() -> None:
    careless = course([[0.5, np.inf]] * 4, [[True, True]] * 4)
    careful = course([[0.5, np.inf]] * 4, [[False, True]] * 4)

    assert least_lead(careless, careless, 0.0) == 0.02
    assert least_lead(careless, careful, 0.0) == 0.52


def test_a_loss_is_allowed_only_with_a_standard_error_to_spare() -> None:
    half = [[0.5, np.inf]] * 10
    losing = course(half, [[False, True]] + [[True, True]] * 9)

    assert least_lead(losing, losing, 0.15) == 0.52
    assert least_lead(losing, losing, 0.2) == 0.02


def test_where_every_threshold_loses_too_much_it_is_exact() -> None:
    losing = course([[0.99999, np.inf]] * 4, [[False, True]] * 4)

    assert choose_threshold(losing, losing, max_loss=0.0).threshold == 1
