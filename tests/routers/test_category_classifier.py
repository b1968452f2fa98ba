from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]

from routers.category.classifier import (
    PENALTY,
    ClassifierKind,
    Logistic,
    choose_temperature,
    fit_classifier,
    restore_classifier,
    softmax,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Int64Array = NDArray[np.int64]

KINDS: tuple[ClassifierKind, ...] = ("logistic", "neighbours")
every_kind = pytest.mark.parametrize("kind", KINDS)


def clouds(n: int, *, seed: int = 0, spread: float = 0.6) -> tuple[Float32Array, Int64Array]:
    """Unit-norm points around three axes of five: half of them around the first."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    points = np.eye(5)[codes] + rng.normal(0, spread, (n, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), codes.astype(np.int64)


@every_kind
def test_categories_are_told_of_points_not_seen(kind: ClassifierKind):
    classifier = fit_classifier(kind, *clouds(300, spread=0.3), 3)
    points, codes = clouds(200, seed=1, spread=0.3)

    assert (classifier.logits(points).argmax(axis=1) == codes).mean() > 0.9


def test_the_logistic_regression_is_that_of_scikit_learn():
    points, codes = clouds(300)
    reference: Any = cast("Any", LogisticRegression)(
        C=1 / PENALTY, class_weight="balanced", tol=1e-8, max_iter=1000
    )

    p = softmax(fit_classifier("logistic", points, codes, 3).logits(points))

    np.testing.assert_allclose(p, reference.fit(points, codes).predict_proba(points), atol=0.02)


@every_kind
def test_all_categories_weigh_equally_however_many_rows_they_have(kind: ClassifierKind):
    points = np.eye(4, dtype=np.float32)[[0] * 30 + [1] * 3]
    classifier = fit_classifier(kind, points, np.array([0] * 30 + [1] * 3), 2)

    p = softmax(classifier.logits(np.array([[0, 0, 1, 0]], np.float32)))

    np.testing.assert_allclose(p, [[0.5, 0.5]], atol=0.06)


@every_kind
def test_a_category_without_a_row_is_hardly_likely(kind: ClassifierKind):
    points, codes = clouds(60)

    p = softmax(fit_classifier(kind, points, codes, 4).logits(points))

    assert p[:, 3].max() < 0.05


@every_kind
def test_without_rows_all_categories_are_equally_likely(kind: ClassifierKind):
    points, codes = clouds(5)

    p = softmax(fit_classifier(kind, points[:0], codes[:0], 4).logits(points))

    np.testing.assert_array_equal(p, np.full((5, 4), 0.25))


@every_kind
def test_the_logits_of_a_point_do_not_depend_on_its_batch(kind: ClassifierKind):
    classifier = fit_classifier(kind, *clouds(100), 3)
    points, _ = clouds(20, seed=1)

    np.testing.assert_allclose(
        classifier.logits(points)[7:8], classifier.logits(points[7:8]), atol=1e-5
    )


@every_kind
def test_no_point_has_no_logits(kind: ClassifierKind):
    classifier = fit_classifier(kind, *clouds(30), 3)

    assert classifier.logits(np.zeros((0, 5), np.float32)).shape == (0, 3)


@every_kind
def test_a_restored_classifier_says_the_same(kind: ClassifierKind):
    classifier = fit_classifier(kind, *clouds(50), 3)
    points, _ = clouds(20, seed=1)

    again = restore_classifier(kind, classifier.arrays)

    np.testing.assert_array_equal(again.logits(points), classifier.logits(points))


def test_arrays_of_another_kind_are_no_classifier():
    with pytest.raises(KeyError):
        restore_classifier("neighbours", fit_classifier("logistic", *clouds(9), 3).arrays)


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_the_temperature_undoes_what_makes_probabilities_too_sure_or_too_shy(times: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4000, 3))
    codes = np.array([rng.choice(3, p=p) for p in softmax(logits)])

    assert choose_temperature(logits * times, codes) == pytest.approx(times, rel=0.1)


def test_the_temperature_is_that_of_categories_and_not_of_rows():
    rare, common = [[-2.0, 2.0]] * 5 + [[2.0, -2.0]] * 5, [[6.0, 0.0]] * 990
    logits, codes = np.array(rare + common), np.array([1] * 10 + [0] * 990)

    assert choose_temperature(logits, codes) == choose_temperature(
        np.array(rare + common[:10]), np.array([1] * 10 + [0] * 10)
    )


def test_the_temperature_of_no_row_is_one():
    assert choose_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1


def test_probabilities_add_up_to_one_and_a_hot_temperature_levels_them():
    logits = np.array([[1000.0, 0.0], [0.0, 1.0]])

    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1)
    np.testing.assert_allclose(softmax(logits, 1e9), 0.5, atol=1e-5)


def test_an_intercept_counts():
    classifier = Logistic(np.zeros((2, 2), np.float32), np.array([0, 1], np.float32))

    np.testing.assert_array_equal(classifier.logits(np.ones((1, 2), np.float32)), [[0, 1]])
