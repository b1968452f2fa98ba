from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from routers.category.means import shrunk_means, tally
from routers.learning import Training

NAN = np.nan


@pytest.fixture
def training(make_lesson: Callable[..., Training]) -> Training:
    """Six rows, two in each of three categories, and three experts; one is not known in maths."""
    lesson = make_lesson(6)
    score = {"maths": [NAN, 0.0, 0.5], "law": [1.0, 1.0, 0.5], "cooking": [0.5, 1.0, 0.0]}
    rows = [score[category or ""] for category in lesson.batch.categories]
    return replace(lesson, score=np.array(rows, np.float32))


def means(training: Training, shrinkage: float) -> np.ndarray:
    return shrunk_means(tally(training, training.category_codes, 3), shrinkage)


def test_without_shrinkage_a_known_mean_is_the_mean(training: Training):
    cooking, law, maths = means(training, 0)

    assert cooking.tolist() == [0.5, 1, 0]
    assert law.tolist() == [1, 1, 0.5]
    assert maths[1:].tolist() == [0, 0.5]


def test_an_expert_never_asked_in_a_hard_category_is_not_taken_for_good_there(training: Training):
    maths = means(training, 0)[2]
    overall = tally(training, training.category_codes, 3).overall
    ease = ((0 - overall[1]) + (0.5 - overall[2])) / 2

    assert overall[0] == 0.75
    assert maths[0] == pytest.approx(overall[0] + ease)


def test_much_shrinkage_leaves_the_overall_means(training: Training):
    overall = tally(training, training.category_codes, 3).overall

    np.testing.assert_allclose(means(training, 1e9), np.tile(overall, (3, 1)), atol=1e-6)


def test_shrinkage_counts_as_so_many_rows_at_the_overall_mean_and_the_shrunk_ease(
    training: Training,
):
    tallied = tally(training, training.category_codes, 3)
    law = np.array([1.0, 1.0, 0.5])
    ease = 2 * (law - tallied.overall).mean() / (2 + 4)

    expected = (2 * law + 4 * (tallied.overall + ease)) / (2 + 4)

    np.testing.assert_allclose(means(training, 4)[1], expected)


def test_an_expert_of_whom_nothing_is_known_has_no_mean_and_does_not_move_the_others(
    training: Training,
):
    score = training.score.copy()
    score[:, 2] = NAN

    found = means(replace(training, score=score), 3)

    assert np.isnan(found[:, 2]).all()
    assert not np.isnan(found[:, :2]).any()


def test_a_row_without_a_category_counts_overall_alone(training: Training):
    codes = training.category_codes.copy()
    codes[codes == 0] = -1

    tallied = tally(training, codes, 3)

    assert tallied.rows.tolist() == [0, 2, 2]
    assert tallied.known.tolist() == [[0, 0, 0], [2, 2, 2], [0, 2, 2]]
    np.testing.assert_array_equal(shrunk_means(tallied, 0)[0], tallied.overall)
