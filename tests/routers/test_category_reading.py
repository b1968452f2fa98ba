from __future__ import annotations

import numpy as np
import pytest

from routers.category.reading import (
    NOT_KNOWN,
    Reading,
    Uncertainty,
    centres_of,
    closeness_to,
    make_reading,
)

P = np.array([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.05, 0.05, 0.9]])
CLOSENESS = np.array([0.9, -0.2, 0.3])
HIDDEN = np.full(3, NOT_KNOWN)
MEANS = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
OVERALL = np.array([0.4, 0.6])


def read(
    uncertainty: Uncertainty = "probability",
    threshold: float = 0.0,
    known: tuple[int, ...] = (-1, -1, -1),
) -> Reading:
    return make_reading(P, CLOSENESS, np.array(known), uncertainty, threshold)


@pytest.mark.parametrize(
    ("uncertainty", "confidence"),
    [
        ("probability", [0.7, 0.4, 0.9]),
        ("entropy", [0.27018, 0.00878, 0.64101]),
        ("distance", [0.9, 0.0, 0.3]),
    ],
)
def test_confidence_is_measured_as_the_setting_says(
    uncertainty: Uncertainty, confidence: list[float]
):
    np.testing.assert_allclose(read(uncertainty).confidence, confidence, atol=1e-4)


def test_a_query_below_the_threshold_is_uncertain_and_has_the_overall_means():
    reading = read(threshold=0.7)

    assert reading.is_certain.tolist() == [True, False, True]
    assert reading.likeliest.tolist() == [0, 3, 2]
    np.testing.assert_allclose(
        reading.raw("soft", MEANS, OVERALL), [[0.75, 0.25], [0.4, 0.6], [0.5, 0.5]]
    )


def test_a_known_category_is_certain_and_counts_alone():
    reading = read("distance", threshold=1.0, known=(NOT_KNOWN, 1, NOT_KNOWN))

    assert reading.is_certain.tolist() == [False, True, False]
    assert reading.confidence[1] == 1
    np.testing.assert_array_equal(reading.p[1], [0, 1, 0])
    np.testing.assert_array_equal(reading.raw("soft", MEANS, OVERALL)[1], [0, 1])


def test_hard_assignment_takes_the_likeliest_category_alone():
    np.testing.assert_array_equal(read().raw("hard", MEANS, OVERALL), [[1, 0], [1, 0], [0.5, 0.5]])


def test_one_category_is_always_certain():
    reading = make_reading(np.ones((2, 1)), np.zeros(2), HIDDEN[:2], "entropy", 1.0)

    assert reading.is_certain.all()


def test_an_expert_without_means_is_unknown_and_the_others_are_not():
    means = np.array([[np.nan, 0.0], [np.nan, 1.0], [np.nan, 0.5]])

    raw = read().raw("soft", means, np.array([np.nan, 0.6]))

    assert np.isnan(raw).tolist() == [[True, False]] * 3


def test_closeness_is_the_cosine_to_the_nearest_centre():
    points = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32)

    centres = centres_of(points, np.array([0, 0, 1]), 3)

    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(
        closeness_to(centres, np.array([[1, 0, 0], [0, 0, -1]], np.float32)),
        [1.6 / np.hypot(1.6, 0.8), 0],
        atol=1e-6,
    )
