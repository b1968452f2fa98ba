from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.advantage import advantage_errors
from routers.kernel import Kernel, kernel_means
from routers.neighbours.kernel_choice import SPARE, Grid, choose_kernel
from routers.neighbours.nearest import nearest_elsewhere

if TYPE_CHECKING:
    from composer.types import Float32Array

NAN = math.nan
GRID = Grid(ks=(1, 3, 8), temperatures=(0.05, 100.0), shrinkages=(0.5, 10.0))
SEEDS = st.integers(0, 2**32 - 1)


def recorded(seed: int, n: int = 24, m: int = 3, *, noise: float = 0.3) -> dict[str, Any]:
    """What experts scored on n queries about two things, with gaps; arguments of the choice.

    Without noise, all queries about one thing have the same embedding.
    """
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 2, n)
    embeddings = np.eye(5)[topics] + rng.normal(0, noise, (n, 5))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    strength = rng.random((2, m))
    targets = np.clip(strength[topics] + rng.normal(0, 0.4 * rng.random(), (n, m)), 0, 1)
    targets[rng.random((n, m)) < 0.2] = NAN
    targets[0] = 0.5
    return {
        "embeddings": embeddings.astype(np.float32),
        "targets": targets.astype(np.float32),
        "prior": np.nanmean(targets, axis=0).astype(np.float32),
        "categories": rng.choice(3, n, p=[0.7, 0.2, 0.1]),
        "folds": np.arange(n) % 4,
    }


def choose(table: dict[str, Any], grid: Grid = GRID, **other: Any) -> Kernel:
    table = {**table, **other}
    embeddings, folds = table.pop("embeddings"), table.pop("folds")
    together, all_count = np.zeros_like(folds), np.ones(len(folds), np.bool_)
    nearest = nearest_elsewhere(embeddings, folds, together, all_count, max(grid.ks) + SPARE)
    return choose_kernel(nearest, **table, grid=grid)


def slow_advantage_error(predicted: list[float], targets: list[float]) -> float:
    known = [(p, t) for p, t in zip(predicted, targets, strict=True) if not math.isnan(t + p)]
    if not known:
        return NAN
    mean_p, mean_t = fmean(p for p, _ in known), fmean(t for _, t in known)
    return fmean(((p - mean_p) - (t - mean_t)) ** 2 for p, t in known)


def slow_error(kernel: Kernel, table: dict[str, Any]) -> float:
    """The held-out error of one kernel, a query at a time, all others its neighbours."""
    embeddings, targets = table["embeddings"], table["targets"]
    of_category: dict[int, list[float]] = {}
    for row, fold in enumerate(table["folds"]):
        others = np.flatnonzero(table["folds"] != fold)
        cosines = embeddings[others] @ embeddings[row]
        order = np.argsort(-cosines)
        predicted = kernel_means(
            cosines[order][None], targets[others][order][None], table["prior"], kernel
        )
        error = slow_advantage_error(predicted[0].tolist(), targets[row].tolist())
        if not math.isnan(error):
            of_category.setdefault(table["categories"][row], []).append(error)
    return fmean(map(fmean, of_category.values()))


@pytest.mark.parametrize("seed", range(6))
def test_the_chosen_kernel_has_the_least_error_on_held_out_queries(seed: int):
    table = recorded(seed)

    chosen = choose(table)

    errors = {kernel: slow_error(kernel, table) for kernel in GRID.kernels}
    assert errors[chosen] == pytest.approx(min(errors.values()), abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_neighbours_as_near_as_the_kth_are_not_left_out_of_the_choice(seed: int):
    table, grid = recorded(seed, noise=0), Grid(ks=(1, 2), shrinkages=(0.5, 10.0))

    chosen = choose(table, grid)

    errors = {kernel: slow_error(kernel, table) for kernel in grid.kernels}
    assert errors[chosen] == pytest.approx(min(errors.values()), abs=1e-7)


def test_other_tables_choose_other_kernels():
    assert len({choose(recorded(seed)) for seed in range(6)}) > 2


def test_a_large_category_does_not_outvote_a_small_one():
    table = recorded(0, n=40)
    apart = {**table, "categories": np.arange(40) // 4 > 0}
    together = {**table, "categories": np.zeros(40, np.int64)}

    errors = {kernel: slow_error(kernel, apart) for kernel in GRID.kernels}
    assert choose(apart) == min(errors, key=lambda kernel: errors[kernel])
    assert choose(apart) != choose(together)


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_the_choice_is_always_the_same(seed: int):
    table = recorded(seed)

    assert choose(table) == choose(table)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_the_order_of_the_experts_does_not_matter(seed: int):
    table = recorded(seed, n=8, m=4)
    order = np.random.default_rng(seed).permutation(4)

    mixed = choose(table, targets=table["targets"][:, order], prior=table["prior"][order])

    assert mixed == choose(table)


def test_of_equal_kernels_the_first_is_chosen():
    n, strength = 24, np.array([0.1, 0.7, 0.3], np.float32)

    chosen = choose(recorded(0, n), targets=np.tile(strength, (n, 1)), prior=strength)

    assert chosen == Kernel(1, 0.05, 0.5)


def test_a_single_kernel_is_taken_as_it_is():
    grid = Grid(ks=(7,), temperatures=(0.2,), shrinkages=(1.0,))

    assert choose(recorded(0), grid) == Kernel(7, 0.2, 1.0)


def test_within_a_single_fold_nothing_is_held_out_and_the_first_kernel_is_taken():
    n = 24

    assert choose(recorded(0, n), folds=np.zeros(n, np.int64)) == Kernel(1, 0.05, 0.5)


def test_a_grid_is_every_combination():
    grid = Grid(ks=(1, 2), temperatures=(0.1,), shrinkages=(0.5, 1.0))

    assert grid.kernels == [
        Kernel(1, 0.1, 0.5),
        Kernel(1, 0.1, 1.0),
        Kernel(2, 0.1, 0.5),
        Kernel(2, 0.1, 1.0),
    ]


def cells(seed: int) -> tuple[Float32Array, Float32Array]:
    """Predictions and targets of a few queries and experts, with gaps in both."""
    rng = np.random.default_rng(seed)
    both = rng.random((2, *rng.integers(1, 5, 2)))
    both[rng.random(both.shape) < 0.3] = NAN
    predicted, targets = both.astype(np.float32)
    return predicted, targets


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_advantage_errors_are_those_of_a_slow_restatement(seed: int):
    predicted, targets = cells(seed)

    expected = [
        slow_advantage_error(p.tolist(), t.tolist())
        for p, t in zip(predicted, targets, strict=True)
    ]
    np.testing.assert_allclose(advantage_errors(predicted, targets), expected, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.floats(-1, 1, width=16), st.floats(-1, 1, width=16))
def test_how_hard_a_query_is_does_not_matter(seed: int, hardness: float, believed: float):
    predicted, targets = cells(seed)

    np.testing.assert_allclose(
        advantage_errors(predicted + np.float32(believed), targets + np.float32(hardness)),
        advantage_errors(predicted, targets),
        atol=1e-6,
    )


def test_a_query_of_which_one_score_is_known_tells_of_no_advantage():
    predicted = np.array([[0.9, 0.1]], np.float32)

    assert advantage_errors(predicted, np.array([[0.2, NAN]], np.float32)).tolist() == [0]
