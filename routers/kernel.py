"""Weighted means over neighbours: what a nearest-neighbours router predicts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

TIED = 1e-6
"""Cosines this near are equal: those of one text differ as much with the batch it is in."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How neighbours count."""

    k: int
    """The nearest so many."""
    temperature: float
    """Of the cosine: weight exp((cosine - nearest cosine) / temperature); 100: all alike."""
    shrinkage: float
    """Weight of the prior, in neighbours as near as the nearest."""


def kernel_means(
    similarity: Float32Array, scores: Float32Array, prior: Float32Array, kernel: Kernel
) -> Float32Array:
    """The weighted means that one kernel gives, [n, m]. Arguments as `kernel_grid`."""
    grid = kernel_grid(
        similarity,
        scores,
        prior,
        ks=(kernel.k,),
        temperatures=(kernel.temperature,),
        shrinkages=(kernel.shrinkage,),
    )
    return next(grid)[1]


def kernel_grid(
    similarity: Float32Array,
    scores: Float32Array,
    prior: Float32Array,
    *,
    ks: Sequence[int],
    temperatures: Sequence[float],
    shrinkages: Sequence[float],
) -> Iterator[tuple[Kernel, Float32Array]]:
    """The weighted means [n, m] of every kernel of a grid; an unknown mean is NaN.

    Neighbours as near as the k-th share the places that are left for them, so that which of them
    comes first does not matter; give some more neighbours than k.

    Args:
        similarity: Cosines of n queries with their K nearest neighbours, [n, K], descending.
        scores: What m experts scored on each neighbour, [n, K, m]; NaN: unknown, does not count.
        prior: What is shrunk towards, [m]; NaN: nothing.
        ks: Neighbours that count; more than K count as K.
        temperatures: See `Kernel`.
        shrinkages: See `Kernel`.
    """
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0)
    has_prior = ~np.isnan(prior)
    filled_prior = np.where(has_prior, prior, 0)
    for temperature in temperatures:
        weights = np.exp((similarity - similarity[:, :1]) / temperature)[:, :, None] * known
        masses, sums = _from_zero(weights), _from_zero(weights * filled)
        for k in ks:
            mass, total = _nearest(masses, similarity, k), _nearest(sums, similarity, k)
            for shrinkage in shrinkages:
                below = mass + shrinkage * has_prior
                above = total + shrinkage * filled_prior
                mean = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
                yield Kernel(k, temperature, shrinkage), mean.astype(np.float32)


def _from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running sums over the neighbours, [n, K + 1, m]: none of them first."""
    running = np.zeros((values.shape[0], values.shape[1] + 1, values.shape[2]))
    np.cumsum(values, axis=1, out=running[:, 1:])
    return running


def _nearest(running: NDArray[np.float64], similarity: Float32Array, k: int) -> NDArray[np.float64]:
    """The sums over the k nearest, [n, m], ties at the k-th place shared."""
    k = min(k, similarity.shape[1])
    last = similarity[:, k - 1 : k]
    n_nearer = (similarity > last + TIED).sum(axis=1)
    n_tied = (similarity >= last - TIED).sum(axis=1) - n_nearer
    rows = np.arange(len(running))
    nearer = running[rows, n_nearer]
    tied = running[rows, n_nearer + n_tied] - nearer
    return nearer + ((k - n_nearer) / n_tied)[:, None] * tied
