from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from routers.learned.contrastive import expert_contrast, group_contrast
from routers.learned.descent import Design, gradient, train_network
from routers.learned.heads import cross_entropy, cross_entropy_slope
from routers.learned.network import Activation, activate, to_unit
from routers.learned.selection import reward_slope

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

N, D, M, WIDTH = 12, 5, 4, 3
Weights = dict[str, Any]
Loss = Callable[[Weights], float]


def fixed() -> np.random.Generator:
    return np.random.default_rng(5)


def data(seed: int = 0) -> tuple[Float32Array, Float32Array]:
    rng = np.random.default_rng(seed)
    score = rng.choice([0, 0.2, 0.7, 1], (N, M)).astype(np.float32)
    score[rng.random((N, M)) < 0.1] = np.nan
    return rng.normal(0, 1, (N, D)).astype(np.float32), score


def weights_of(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    shapes = {"inner": (D, WIDTH), "shift": (WIDTH,), "outer": (WIDTH, M), "level": (M,)}
    return {name: rng.normal(0, 1, shape) for name, shape in shapes.items()}


def forward(
    activation: Activation, w: Weights, x: Float32Array
) -> tuple[Float32Array, Float32Array]:
    hidden = activate(x @ w["inner"] + w["shift"], activation)
    outer = to_unit(w["outer"], axis=0) if activation == "unit" else w["outer"]
    return hidden, hidden @ outer + w["level"]


def contrast_slope(
    raw: Float32Array, score: Float32Array, rng: np.random.Generator
) -> Float32Array:
    return expert_contrast(raw, score, fixed())[1]


def kind_slope(
    hidden: Float32Array, groups: NDArray[np.int64], rng: np.random.Generator
) -> Float32Array:
    return group_contrast(hidden, groups, fixed())[1]


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_gradient_of_the_cross_entropy_is_its_slope(activation: Activation):
    x, score = data()
    weights = weights_of()
    known = (~np.isnan(score)).sum()

    def loss(w: Weights) -> float:
        return cross_entropy(forward(activation, w, x)[1], score) * known / N

    design = Design(activation, WIDTH, cross_entropy_slope)
    check(loss, gradient(design, weights, x, score, np.zeros(N, np.int64), fixed()), weights)


def test_the_gradient_of_the_contrasts_is_their_slope():
    x, score = data()
    weights = weights_of()
    weights["level"] = np.zeros(M)
    groups = np.arange(N) % 2

    def loss(w: Weights) -> float:
        hidden, raw = forward("unit", w, x)
        return expert_contrast(raw, score, fixed())[0] + group_contrast(hidden, groups, fixed())[0]

    design = Design("unit", WIDTH, contrast_slope, kind_slope)
    found = gradient(design, weights, x, score, groups, fixed())

    assert not found.pop("level").any()
    check(loss, found, weights)


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_the_gradient_of_the_reward_is_its_slope(balance: float):
    _, score = data()
    raw = np.random.default_rng(1).normal(0, 1, (N, M))
    known = ~np.isnan(score)

    def loss(w: Weights) -> float:
        shares = np.where(known, np.exp(w["raw"]), 0)
        shares = shares / shares.sum(axis=1, keepdims=True)
        load = shares.sum(axis=0)
        reward = (shares * np.nan_to_num(score)).sum() / N
        return float(-reward + balance * load.var() / load.mean() ** 2)

    found = reward_slope(raw.astype(np.float32), score, balance)

    check(loss, {"raw": found}, {"raw": raw})
    assert not found[~known].any()


def check(loss: Loss, slopes: Weights, weights: Weights) -> None:
    """Slopes are those of the loss, by central differences."""
    step = 1e-4
    for name, slope in slopes.items():
        for at in np.ndindex(*slope.shape):
            up, down = weights[name].copy(), weights[name].copy()
            up[at] += step
            down[at] -= step
            rise = loss(weights | {name: up}) - loss(weights | {name: down})
            assert slope[at] == pytest.approx(rise / (2 * step), abs=2e-4), (name, at)


def test_training_lowers_the_loss_epoch_by_epoch():
    x, score = data()
    x, score = np.tile(x, (40, 1)), np.tile(score, (40, 1))
    design = Design("relu", 16, cross_entropy_slope)

    networks = train_network(design, x, score, np.zeros(len(x), np.int64), [1, 8, 64])

    losses = [cross_entropy(network.raw(x), score) for network in networks]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_a_network_after_some_epochs_is_the_same_however_long_training_goes_on():
    x, score = data()
    design = Design("linear", 4, cross_entropy_slope)
    groups = np.zeros(N, np.int64)

    (alone,) = train_network(design, x, score, groups, [2])
    first, _ = train_network(design, x, score, groups, [2, 5])

    np.testing.assert_array_equal(alone.raw(x), first.raw(x))


def test_the_scale_of_the_embeddings_does_not_matter():
    x, score = data()
    design = Design("relu", 4, cross_entropy_slope)
    groups = np.zeros(N, np.int64)

    (one,) = train_network(design, x, score, groups, [3])
    (other,) = train_network(design, 0.05 * x + 3, score, groups, [3])

    np.testing.assert_allclose(other.raw(0.05 * x + 3), one.raw(x), atol=1e-3)


def test_an_expert_vector_and_a_projected_query_have_norm_one_where_cosines_are_scores():
    x, score = data()
    design = Design("unit", 4, contrast_slope)

    (network,) = train_network(design, x, score, np.zeros(N, np.int64), [2])

    np.testing.assert_allclose(np.linalg.norm(network.outer, axis=0), 1, atol=1e-5)
    assert np.abs(network.raw(x)).max() <= 1 + 1e-5
    assert not network.level.any()


def test_the_second_contrast_brings_queries_of_a_kind_together():
    rng = np.random.default_rng(3)
    groups = np.arange(1200) % 2
    x = rng.normal(0, 1, (1200, 8)).astype(np.float32)
    x[:, 0] += 4 * groups
    score = rng.random((1200, M)).astype(np.float32)
    design = Design("unit", 4, contrast_slope)
    with_groups = replace(design, group_objective=kind_slope)

    def apart(design: Design) -> float:
        (network,) = train_network(design, x, score, groups, [10])
        assert network.inner is not None
        assert network.shift is not None
        inner = (x - network.center) @ network.inner + network.shift
        hidden = activate(inner.astype(np.float32), "unit")
        alike = groups[:, None] == groups[None, :]
        cosine = hidden @ hidden.T
        return float(cosine[alike].mean() - cosine[~alike].mean())

    assert apart(with_groups) > apart(design) + 0.1
