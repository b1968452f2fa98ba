from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.learned.logistic import OWN, SHARED, Penalties, fit_logistic, make_bound, penalty_grid

if TYPE_CHECKING:
    from composer.types import Float32Array

SEEDS = st.integers(0, 2**32 - 1)
PENALTIES = Penalties(0.5, 2.0)


def problem(seed: int, n: int = 40, d: int = 6, m: int = 3) -> tuple[Float32Array, Float32Array]:
    """Embeddings, and scores that depend on them, with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.2, 0.5, (n, d))
    chance = 1 / (1 + np.exp(-x @ rng.normal(0, 2, (d, m)) - rng.normal(0, 1, m)))
    score = np.where(rng.random((n, m)) < 0.3, rng.random((n, m)), rng.random((n, m)) < chance)
    score[rng.random((n, m)) < rng.random()] = math.nan
    score[0] = 0.5
    return x.astype(np.float32), score.astype(np.float32)


def fit(x: Float32Array, score: Float32Array, penalties: Penalties = PENALTIES):
    (network,) = fit_logistic(x, score, [penalties], make_bound(x))
    return network


def steepest(x: Float32Array, score: Float32Array, penalties: Penalties) -> float:
    """The largest slope, at what was fitted, of the loss that the module states."""
    network = fit(x, score, penalties)
    weights, level = network.outer.astype(np.float64), network.level.astype(np.float64)
    centred = (x - network.center).astype(np.float64)
    known = ~np.isnan(score)
    residual = np.where(known, 1 / (1 + np.exp(-centred @ weights - level)) - score, 0)
    shared = weights.mean(axis=1, keepdims=True)
    slope = (
        centred.T @ residual + penalties.shared_l2 * shared + penalties.own_l2 * (weights - shared)
    )
    counts = known.sum(axis=0)
    mean = (np.nansum(score, axis=0) + 0.5) / (counts + 1)
    of_level = residual.sum(axis=0) + level - np.log(mean / (1 - mean))
    return float(max(np.abs(slope).max(), np.abs(of_level).max()))


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, shared_l2=st.sampled_from([0.3, 3.0]), times=st.sampled_from([1.0, 8.0]))
def test_the_fit_is_the_minimum_of_the_penalised_loss_whatever_is_unknown(
    seed: int, shared_l2: float, times: float
):
    x, score = problem(seed)

    assert steepest(x, score, Penalties(shared_l2, shared_l2 * times)) < 0.2


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_a_path_of_penalties_fits_as_each_alone(seed: int):
    x, score = problem(seed)
    grid = [Penalties(10, 30), Penalties(3, 9), Penalties(1, 3)]

    path = list(fit_logistic(x, score, grid, make_bound(x)))

    for network, penalties in zip(path, grid, strict=True):
        np.testing.assert_allclose(network.raw(x), fit(x, score, penalties).raw(x), atol=0.1)


def test_the_bound_of_more_rows_serves_as_well():
    x, score = problem(4, n=80)
    part, of_part = x[:60], score[:60]

    (found,) = fit_logistic(part, of_part, [PENALTIES], make_bound(x))

    np.testing.assert_allclose(found.raw(x), fit(part, of_part).raw(x), atol=0.1)


def test_a_penalty_on_what_is_ones_own_leaves_what_is_shared():
    x, score = problem(1, n=400)
    score[:, 1:] = score[:, :1]

    weights = fit(x, score, Penalties(0.5, 1e6)).outer

    np.testing.assert_allclose(weights, weights[:, :1].repeat(3, axis=1), atol=1e-3)
    assert np.abs(weights).max() > 0.5


def test_a_penalty_on_what_is_shared_leaves_what_is_ones_own():
    x, score = problem(1, n=400)

    weights = fit(x, score, Penalties(1e6, 0.5)).outer

    np.testing.assert_allclose(weights.mean(axis=1), 0, atol=1e-3)
    assert np.abs(weights).max() > 0.5


def test_an_expert_of_whom_little_is_known_leans_on_the_others():
    x, score = problem(2, n=400, m=2)
    score[:, 1] = math.nan
    score[:4, 1] = score[:4, 0]

    weights = fit(x, score, Penalties(0.5, 4.0)).outer

    assert np.corrcoef(weights.T)[0, 1] > 0.9


def test_the_level_is_the_log_odds_where_queries_tell_nothing():
    score = np.array([[1, 0]] * 30 + [[0, 0]] * 10, np.float32)

    level = fit(np.ones((40, 3), np.float32), score).level

    assert level[0] == pytest.approx(math.log(3), abs=0.05)
    assert -6 < level[1] < -3


def test_an_expert_of_whom_nothing_is_known_has_no_score():
    x, score = problem(3)
    score[:, 1] = math.nan

    raw = fit(x, score).raw(x)

    assert np.isnan(raw[:, 1]).all()
    assert np.isfinite(raw[:, [0, 2]]).all()


def test_what_is_given_is_not_chosen():
    both, shared, own, none = (
        penalty_grid(*given) for given in [(1.0, 5.0), (1.0, None), (None, 5.0), (None, None)]
    )

    assert both == [Penalties(1.0, 5.0)]
    assert shared == [Penalties(1.0, times) for times in OWN]
    assert own == [Penalties(each, 5.0) for each in SHARED]
    assert len(none) == len(SHARED) * len(OWN)
