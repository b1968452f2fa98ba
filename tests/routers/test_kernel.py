from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.kernel import CELLS, Kernel, batches, kernel_grid, kernel_means, n_counting

if TYPE_CHECKING:
    from composer.types import Float32Array

    Case = tuple[Float32Array, Float32Array, Float32Array]

NAN = math.nan
NOISE = 2**-22
"""What the batch may do to a cosine: far less than what tells two texts apart."""
KERNELS = st.builds(
    Kernel,
    st.integers(1, 9),
    st.sampled_from([0.05, 0.3, 1.0, 100.0]),
    st.sampled_from([0.0, 0.5, 2.0, 10.0]),
)


def make_case(n: int, n_neighbours: int, m: int, seed: int) -> Case:
    """Neighbours of n queries, many as near as others, with gaps in their scores and the prior."""
    rng = np.random.default_rng(seed)
    eighths, noise = rng.integers([[[-2]], [[0]]], [[[9]], [[2]]], (2, n, n_neighbours))
    similarity = -np.sort(-(eighths / 8 + noise * NOISE), axis=1)
    scores = rng.choice([NAN, 0, 1, rng.random()], (n, n_neighbours, m))
    prior = rng.choice([NAN, 0, rng.random()], m)
    return similarity.astype(np.float32), scores.astype(np.float32), prior.astype(np.float32)


CASES = st.builds(
    make_case, st.integers(1, 3), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2**32 - 1)
)


def slow_mean(
    cosines: Sequence[float], scores: Sequence[float], prior: float, kernel: Kernel
) -> float:
    k = min(kernel.k, len(cosines))
    eighths = [round(8 * cosine) for cosine in cosines]
    nearer = [at for at, each in enumerate(eighths) if each > eighths[k - 1]]
    tied = [at for at, each in enumerate(eighths) if each == eighths[k - 1]]
    share = (k - len(nearer)) / len(tied)
    mass = total = 0.0
    for at in nearer + tied:
        if not math.isnan(scores[at]):
            weight = math.exp((cosines[at] - cosines[0]) / kernel.temperature)
            weight *= share if at in tied else 1
            mass += weight
            total += weight * scores[at]
    if mass == 0 or math.isnan(prior):
        return total / mass if mass else prior
    return (total + kernel.shrinkage * prior) / (mass + kernel.shrinkage)


@settings(deadline=None, max_examples=60)
@given(CASES, KERNELS)
def test_the_means_are_those_of_a_slow_restatement(case: Case, kernel: Kernel):
    similarity, scores, prior = case

    means = kernel_means(similarity, scores, prior, kernel)

    expected = [
        [slow_mean(row.tolist(), cells[:, j].tolist(), prior[j], kernel) for j in range(len(prior))]
        for row, cells in zip(similarity, scores, strict=True)
    ]
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(CASES)
def test_a_grid_gives_for_each_kernel_what_it_gives_alone(case: Case):
    ks, temperatures, shrinkages = (1, 3, 20), (0.1, 100.0), (0.0, 2.0)

    grid = list(kernel_grid(*case, ks=ks, temperatures=temperatures, shrinkages=shrinkages))

    every = {Kernel(*each) for each in product(ks, temperatures, shrinkages)}
    assert len(grid) == len(every)
    assert {kernel for kernel, _ in grid} == every
    for kernel, means in grid:
        np.testing.assert_allclose(means, kernel_means(*case, kernel), atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(CASES, st.integers(1, 1000))
def test_a_k_beyond_the_neighbours_counts_all_of_them(case: Case, more: int):
    n_neighbours = case[0].shape[1]

    np.testing.assert_array_equal(
        kernel_means(*case, Kernel(n_neighbours + more, 0.1, 2)),
        kernel_means(*case, Kernel(n_neighbours, 0.1, 2)),
    )


@settings(deadline=None, max_examples=60)
@given(CASES, KERNELS)
def test_a_mean_lies_within_the_scores_and_the_prior(case: Case, kernel: Kernel):
    similarity, scores, prior = case
    everything = np.concatenate(
        [scores, np.broadcast_to(prior, (len(scores), 1, len(prior)))], axis=1
    )
    least = np.where(np.isnan(everything), np.inf, everything).min(axis=1)
    most = np.where(np.isnan(everything), -np.inf, everything).max(axis=1)

    means = kernel_means(similarity, scores, prior, kernel)

    is_known = ~np.isnan(means)
    assert np.all((means >= least - 1e-6)[is_known])
    assert np.all((means <= most + 1e-6)[is_known])


@settings(deadline=None, max_examples=60)
@given(CASES, KERNELS, st.integers(0, 999))
def test_the_order_of_neighbours_that_are_as_near_does_not_matter(
    case: Case, kernel: Kernel, seed: int
):
    similarity, scores, prior = case
    similarity = np.round(8 * similarity) / np.float32(8)
    shuffled = scores.copy()
    rng = np.random.default_rng(seed)
    for row, cells in zip(similarity, shuffled, strict=True):
        for cosine in np.unique(row):
            tied = np.flatnonzero(row == cosine)
            cells[tied] = cells[rng.permutation(tied)]

    np.testing.assert_allclose(
        kernel_means(similarity, shuffled, prior, kernel),
        kernel_means(similarity, scores, prior, kernel),
        atol=1e-6,
    )


def one(cosines: Sequence[float], scores: Sequence[float], prior: float, kernel: Kernel) -> float:
    """The mean of one expert for one query."""
    means = kernel_means(
        np.array([cosines], np.float32),
        np.array(scores, np.float32).reshape(1, -1, 1),
        np.array([prior], np.float32),
        kernel,
    )
    return float(means[0, 0])


def test_neighbours_as_near_as_the_kth_share_the_places_that_are_left():
    mean = one([0.9, 0.5, 0.5, 0.5], [1, 0, 0, 1], NAN, Kernel(2, 100.0, 0))

    assert mean == pytest.approx((1 + 1 / 3) / 2, abs=1e-2)


def test_neighbours_farther_than_the_kth_do_not_count():
    assert one([0.9, 0.8, 0.7], [1, 1, 0], NAN, Kernel(2, 0.1, 0)) == 1


def test_a_high_temperature_gives_the_plain_mean():
    assert one([1, 0.5, 0], [1, 0.5, 0], NAN, Kernel(3, 1e6, 0)) == pytest.approx(0.5)


def test_a_tiny_temperature_gives_the_score_of_the_nearest():
    assert one([1, 0.999, 0.5], [0.25, 1, 1], NAN, Kernel(3, 1e-6, 0)) == 0.25


def test_shrinkage_is_the_priors_weight_in_neighbours_as_near_as_the_nearest():
    assert one([0.3], [1], 0, Kernel(1, 0.1, 3)) == 0.25


def test_an_unknown_score_does_not_count():
    assert one([1, 1], [NAN, 0.75], NAN, Kernel(2, 0.1, 0)) == 0.75


def test_without_a_prior_and_a_known_score_the_mean_is_unknown():
    assert math.isnan(one([1, 0.5], [NAN, NAN], NAN, Kernel(2, 0.1, 5)))


@pytest.mark.parametrize("shrinkage", [0, 5])
def test_where_no_score_is_known_the_prior_stands_whatever_it_weighs(shrinkage: float):
    assert one([1, 0.5], [NAN, NAN], 0.75, Kernel(2, 0.1, shrinkage)) == 0.75


def test_a_neighbour_too_far_to_weigh_anything_tells_nothing():
    assert math.isnan(one([1, 0.26], [NAN, 0.7], NAN, Kernel(2, 1e-3, 0)))


@settings(deadline=None, max_examples=60)
@given(CASES, st.integers(1, 9))
def test_those_that_count_are_the_kth_those_nearer_and_those_as_near(case: Case, k: int):
    similarity = case[0]

    eighths = np.round(8 * similarity)
    kth = eighths[:, [min(k, similarity.shape[1]) - 1]]
    np.testing.assert_array_equal(n_counting(similarity, k), (eighths >= kth).sum(axis=1))


@settings(max_examples=30)
@given(st.integers(1, 2000), st.integers(1, 5000), st.integers(1, 3000))
def test_batches_are_all_rows_in_their_order_and_none_is_large(n: int, n_neighbours: int, m: int):
    parts = batches(np.arange(n), n_neighbours, m)

    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
    assert all(len(part) == 1 or len(part) * n_neighbours * m <= CELLS for part in parts)
