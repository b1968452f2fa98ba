from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.types import Evidence
from routers.learning import Batch, Lesson, Training
from routers.stacked.learner import StackedLearner
from routers.stacked.weights import PRIOR_QUERIES, combine, fill, nonnegative_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query

    Float64Array = NDArray[np.float64]

MakeTraining = Callable[..., Training]

NAN = math.nan
SEEDS = st.integers(0, 2**32 - 1)


def recorded(
    seed: int, n: int, *, m: int = 4, noises: Sequence[float] = (0.05, 0.2, 1.0)
) -> tuple[Float64Array, Float32Array]:
    """What members of growing noise predict [K, n, m], and what was recorded [n, m]."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, m))
    qualities = np.stack([truth + rng.normal(0, noise, truth.shape) for noise in noises])
    return qualities, (rng.random((n, m)) < truth).astype(np.float32)


def weigh(qualities: Float64Array, score: Float32Array) -> Float64Array:
    return nonnegative_weights(qualities, score, np.ones(len(score)))


def test_of_many_queries_the_best_member_gets_the_most_and_noise_next_to_nothing():
    good, fair, noise = weigh(*recorded(0, 8000))

    assert good > fair > noise
    assert noise < 0.05


def test_of_few_queries_the_members_weigh_about_the_same():
    weights = weigh(*recorded(0, 5))

    assert weights == pytest.approx(np.full(3, weights.mean()), rel=0.1)


@pytest.mark.parametrize("n", [50, 500, 5000])
def test_the_weights_are_those_of_ridge_regression_about_equal_ones(n: int):
    qualities, score = recorded(1, n, noises=(0.1, 0.3))

    weights = weigh(qualities, score)

    predicted = (qualities - qualities.mean(axis=2, keepdims=True)).reshape(2, -1)
    told = (score - score.mean(axis=1, keepdims=True)).ravel()
    equal = float(predicted.sum(axis=0) @ told / (predicted.sum(axis=0) ** 2).sum())
    held = np.sqrt((predicted**2).sum() / 2 * PRIOR_QUERIES / n)
    rows = np.concatenate([predicted.T, held * np.eye(2)])
    expected = np.linalg.lstsq(rows, np.concatenate([told, np.full(2, held * equal)]))[0]
    assert weights == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(1, 40))
def test_no_weight_is_negative_and_some_are_not_zero(seed: int, n: int):
    weights = weigh(*recorded(seed, n))

    assert (weights >= 0).all()
    assert weights.sum() > 0


def test_a_member_that_is_wrong_about_everything_is_left_out():
    (good,), score = recorded(2, 4000, noises=(0.05,))

    weights = weigh(np.stack([good, 1 - good]), score)

    assert weights[1] == 0


@pytest.mark.parametrize("n", [0, 4])
def test_where_nothing_tells_them_apart_members_weigh_the_same(n: int):
    score = np.full((n, 3), 0.5, np.float32)

    assert weigh(np.full((2, n, 3), 0.3), score).tolist() == [0.5, 0.5]


def test_cells_that_are_unknown_count_for_nothing():
    qualities, score = recorded(3, 40)
    score[::3, 1] = NAN
    others = qualities.copy()
    others[:, ::3, 1] = 0.77

    assert weigh(others, score) == pytest.approx(weigh(qualities, score))


def test_heavier_rows_decide_more():
    first, score = recorded(4, 600, noises=(0.05, 1.0))
    turned = np.concatenate([first[:, :300], first[::-1, 300:]], axis=1)
    heavy = np.where(np.arange(600) < 300, 1.9, 0.1)

    on_first = nonnegative_weights(turned, score, heavy)
    on_last = nonnegative_weights(turned, score, 2 - heavy)

    assert on_first[0] > on_first[1]
    assert on_last[1] > on_last[0]


@settings(deadline=None, max_examples=50)
@given(SEEDS)
def test_the_combination_orders_experts_by_the_weighted_advantages(seed: int):
    rng = np.random.default_rng(seed)
    qualities, weights = rng.random((3, 5, 4)), rng.random(3)

    raw = combine(qualities, weights)

    each = qualities - qualities.mean(axis=2, keepdims=True)
    advantage = (weights[:, None, None] * each).sum(axis=0)
    assert (raw.argsort(axis=1) == advantage.argsort(axis=1)).all()


def test_experts_whom_all_think_perfect_or_useless_do_not_tie():
    qualities = np.array([[[0.999, 0.998, 0.001, 0.002]]])

    raw = combine(qualities, np.array([3.0]))[0]

    assert len(set(raw.tolist())) == 4


def test_what_nobody_knows_stays_unknown():
    raw = combine(np.array([[[0.2, NAN, 0.4]]]), np.ones(1))[0]

    assert np.isnan(raw).tolist() == [False, True, False]


def test_what_one_member_does_not_know_the_others_say():
    filled = fill(np.array([[[NAN, 0.2]], [[0.4, 0.4]], [[0.6, NAN]]]))

    assert filled[:, 0].tolist() == [[0.5, 0.2], [0.4, 0.4], [0.6, pytest.approx(0.3)]]


@dataclass(frozen=True)
class Told:
    """A model that says of each query what it was told to say."""

    raw: Mapping[str, Float32Array]

    @property
    def settings(self) -> dict[str, Any]:
        raise AssertionError

    def predict(self, batch: Batch) -> Float32Array:
        return np.stack([self.raw[each] for each in batch.ids])

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        return Evidence(f"told {self.raw[batch.ids[row]][column]:.1f}")

    def without(self, column: int) -> Told:
        raise AssertionError

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        raise AssertionError


class TellingLearner:
    """A member whose held-out scores are the recorded ones and some noise, in logits."""

    name = "telling"
    needs: frozenset[RouterNeed] = frozenset()
    given: Mapping[str, Any] = {}

    def __init__(self, noise: float) -> None:
        self._noise = noise

    def fit(self, training: Training) -> Lesson:
        rng = np.random.default_rng(0)
        noise = rng.normal(0, self._noise, training.score.shape)
        raw = (4 * (training.score - 0.5) + noise).astype(np.float32)
        model = Told(dict(zip(training.batch.ids, raw, strict=True)))
        return Lesson(model, raw, -raw)

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Told:
        raise AssertionError

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        raise AssertionError


def test_it_explains_by_the_member_that_weighs_most(make_lesson: MakeTraining):
    training = make_lesson(600)
    learner = StackedLearner(members={"loud": TellingLearner(9), "clear": TellingLearner(0.1)})

    why = learner.fit(training).model.why(training.batch.without_categories(), 0, 0)

    members = why.details["members"]
    assert members["clear"]["weight"] > members["loud"]["weight"]
    assert "; clear: told " in why.reason


def test_members_are_weighed_anew_where_the_category_is_known(make_lesson: MakeTraining):
    training = make_lesson(600)

    lesson = StackedLearner(members={"clear": TellingLearner(0.1)}).fit(training)

    # Of a known category the member says the opposite of what was recorded: it is not listened to.
    best = training.score.argmax(axis=1)
    is_settled = (training.score == 1).sum(axis=1) == 1
    assert (lesson.held_out.argmax(axis=1) == best)[is_settled].all()
    assert (np.ptp(lesson.held_out_known, axis=1) == 0).all()
    hidden = lesson.model.predict(training.batch.without_categories())
    assert (hidden.argmax(axis=1) == best)[is_settled].all()
    assert (np.ptp(lesson.model.predict(training.batch), axis=1) == 0).all()


@dataclass(frozen=True)
class AgainLearner(TellingLearner):
    """A member that learns nothing new."""

    lesson: Lesson

    def fit(self, training: Training) -> Lesson:
        return self.lesson


def test_what_a_fold_scored_does_not_weigh_the_members_for_it(make_lesson: MakeTraining):
    training = make_lesson(120)
    is_held = training.folds == training.folds[0]
    members = {
        "loud": AgainLearner(TellingLearner(3).fit(training)),
        "clear": AgainLearner(TellingLearner(0.1).fit(training)),
    }
    turned = training.score.copy()
    turned[is_held] = 1 - turned[is_held]

    before, after = (
        StackedLearner(members=members).fit(replace(training, score=score)).held_out[is_held]
        for score in (training.score, turned)
    )

    assert (before.argsort(axis=1) == after.argsort(axis=1)).mean() > 0.95
