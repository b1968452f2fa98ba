"""Weighted means over neighbours: what a nearest-neighbours router predicts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.index import Int64Array

TIED = 1e-6
"""Cosines this near are equal: those of one text differ as much with the batch it is in."""
CELLS = 1 << 22
"""Neighbours' scores worked on at one time: 32 MiB in float64."""
_LEAST = 1e-300
"""Smaller weights lose digits; a prior that weighs nothing has this one, to stand in for none."""


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
        prior: What is shrunk towards, [m], and the mean where no neighbour counts; NaN: nothing.
        ks: Neighbours that count; more than K count as K.
        temperatures: See `Kernel`.
        shrinkages: See `Kernel`.
    """
    is_known, has_prior = ~np.isnan(scores), ~np.isnan(prior)
    known = None if is_known.all() else is_known.astype(np.float64)
    filled = (scores if known is None else np.where(is_known, scores, 0)).astype(np.float64)
    filled_prior = np.where(has_prior, prior, 0)
    shares = np.stack([_shares(similarity, k) for k in ks], axis=1)
    distance = (similarity[:, :1] - similarity).astype(np.float64)
    for temperature in temperatures:
        weights = np.exp(-distance / temperature)[:, None] * shares
        # Where all is known, every expert's neighbours weigh the same.
        masses = weights.sum(axis=2, keepdims=True) if known is None else weights @ known
        sums = weights @ filled
        for at, k in enumerate(ks):
            for shrinkage in shrinkages:
                of_prior = max(shrinkage, _LEAST) * has_prior
                below, above = masses[:, at] + of_prior, sums[:, at] + of_prior * filled_prior
                unknown = np.full_like(above, np.nan)
                mean = np.divide(above, below, out=unknown, where=below >= _LEAST)
                yield Kernel(k, temperature, shrinkage), mean.astype(np.float32)


def n_counting(similarity: Float32Array, k: int) -> Int64Array:
    """How many neighbours count [n]: those nearer than the k-th or as near."""
    k = min(k, similarity.shape[1])
    return (similarity >= similarity[:, k - 1 : k] - TIED).sum(axis=1)


def batches(rows: Int64Array, n_neighbours: int, n_experts: int) -> list[Int64Array]:
    """The rows in batches of which the neighbours' scores are at most `CELLS`, or of one row."""
    n = max(1, CELLS // (n_neighbours * n_experts))
    return [rows[start : start + n] for start in range(0, len(rows), n)]


def _shares(similarity: Float32Array, k: int) -> NDArray[np.float64]:
    """How much of each neighbour [n, K] is among the k nearest: those tied at the k-th share."""
    k = min(k, similarity.shape[1])
    last = similarity[:, k - 1 : k]
    is_nearer = similarity > last + TIED
    is_tied = (similarity >= last - TIED) & ~is_nearer
    n_left = k - is_nearer.sum(axis=1, keepdims=True)
    return is_nearer + is_tied * (n_left / is_tied.sum(axis=1, keepdims=True))
