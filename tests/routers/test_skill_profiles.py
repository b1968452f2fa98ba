from __future__ import annotations

import numpy as np
import pytest

from routers.skill.profiles import (
    Mode,
    Profiles,
    Skilled,
    add_up,
    competency,
    make_profiles,
    suitability,
)
from routers.skill.terms import Terms, fit_category_weight, fit_local_weight

NAN = float("nan")
# Query 0 takes skill 0, query 1 takes skills 0 and 1, query 2 takes skill 1 twice.
SKILLED = Skilled(np.array([[0, 0], [0, 1], [1, 1]]), np.array([[1.0, 0], [1, 1], [1, 1]]))
SCORE = np.array([[1, NAN], [1, 0], [0.75, 0]], np.float32)


def profiles() -> Profiles:
    return make_profiles(SKILLED, SCORE, 3)


def test_a_right_answer_adds_one_and_a_wrong_one_takes_one_away():
    np.testing.assert_allclose(profiles().sums, [[2, -1], [2, -3], [0, 0]])


def test_unknown_outcomes_do_not_count():
    np.testing.assert_allclose(profiles().counts, [[2, 1], [3, 3], [0, 0]])
    assert profiles().is_known.tolist() == [True, True, False]


def test_deviations_shrink_towards_nothing_where_few_outcomes_tell():
    overall = np.array([0.5, -1.0])

    np.testing.assert_allclose(
        profiles().deviations(overall, 2), [[1 / 4, 0], [0.5 / 5, 0], [0, 0]], atol=1e-12
    )
    np.testing.assert_allclose(profiles().deviations(overall, 0)[0, 0], 0.5)


def test_a_profile_goes_with_its_expert():
    np.testing.assert_allclose(profiles().without(0).sums, [[-1], [-3], [0]])


def test_skills_add_up_as_often_as_a_query_has_them():
    values = np.array([[1.0], [10.0]])

    np.testing.assert_allclose(add_up(values, SKILLED.codes, SKILLED.weights), [[1], [11], [20]])
    np.testing.assert_allclose(add_up(values, SKILLED.codes, SKILLED.shares), [[1], [5.5], [10]])


@pytest.mark.parametrize(
    ("mode", "shares"), [("code", [1 / 17, 16 / 17]), ("paper", [1 / 5, 4 / 5])]
)
def test_competency_is_a_share_of_the_pools_total_squared_in_the_code(
    mode: Mode, shares: list[float]
):
    np.testing.assert_allclose(competency(np.array([[0.0, 2], [1, 2]]), mode), shares)


def test_negative_totals_are_moved_up_until_the_least_is_one():
    np.testing.assert_allclose(competency(np.array([[-3.0, 0]]), "paper"), [1 / 5, 4 / 5])


def test_the_code_multiplies_candidates_only():
    local, share = np.array([[4.0, -2, 0]]), np.array([0.25, 0.25, 0.5])

    np.testing.assert_allclose(suitability(local, share, "code"), [[1, -2, 0]])
    np.testing.assert_allclose(suitability(local, share, "paper"), [[2, -1, 0]])


def terms(is_told: bool) -> Terms:
    local, category = np.array([[1.0, -1], [2, 0]]), np.array([[-1.0, 1], [1, -1]])
    return Terms(np.zeros((2, 2)), local, category, np.full(2, is_told))


def test_the_local_weight_is_what_explains_the_advantage():
    difficulty = np.array([[3.0], [-5]])

    assert fit_local_weight(terms(False), 0.5 * terms(False).local + difficulty, np.ones(2)) == (
        pytest.approx(0.5)
    )


@pytest.mark.parametrize(("slope", "weight"), [(-1, 0), (99, 10)])
def test_the_local_weight_stays_in_its_range(slope: float, weight: float):
    assert fit_local_weight(terms(False), slope * terms(False).local, np.ones(2)) == weight


def test_the_category_replaces_as_much_of_the_skills_as_explains_the_advantage():
    told = terms(True)

    assert fit_category_weight(told, 1.0, told.known(1.0, 0.3), np.ones(2)) == pytest.approx(0.3)


def test_weights_that_nothing_tells_of_are_one():
    unknown = Terms.unknown(2, 2)

    assert fit_local_weight(unknown, np.zeros((2, 2)), np.ones(2)) == 1
    assert fit_category_weight(terms(False), 1.0, np.zeros((2, 2)), np.ones(2)) == 1


def test_a_category_that_is_not_told_does_not_change_the_scores():
    np.testing.assert_array_equal(terms(False).known(2.0, 0.5), terms(False).hidden(2.0))
