"""Which clusters predict best: chosen by the squared error of the advantage on held-out rows.

The error, and why it is that one: see `routers.advantage`. It is that of mean scores, whatever is
then made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from routers.advantage import advantage_errors
from routers.clusters.model import distances_to, memberships
from routers.kmeans import Clustering, cluster

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Batch, Training

    BoolArray = NDArray[np.bool_]
    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]

LEAST_MEMBERS = 8
"""Queries a cluster, on the average, that there must be."""


class Smoothing(NamedTuple):
    """What is chosen."""

    n_clusters: int
    top_k: int
    beta: float
    shrinkage: float


@dataclass(frozen=True, slots=True)
class Grid:
    """The values to choose among."""

    n_clusters: tuple[int, ...] = (8, 16, 32, 64)
    top_k: tuple[int, ...] = (1, 4, 16)
    beta: tuple[float, ...] = (6.0, 30.0)
    shrinkage: tuple[float, ...] = (2.0, 10.0, 50.0)

    def sizes(self, n: int) -> tuple[int, ...]:
        """Numbers of clusters for n queries: none so large that clusters are too small."""
        fitting = tuple(size for size in self.n_clusters if size * LEAST_MEMBERS <= n)
        return fitting or (min(self.n_clusters),)


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows held out, and the others' clusters."""

    is_held: BoolArray
    """[n]."""
    rest: Training
    """The other rows."""
    clusterings: Mapping[int, Clustering]
    """Of the other rows, by the number asked for."""


def make_folds(training: Training, sizes: Sequence[int]) -> list[Fold]:
    """The folds; none where all rows are in one."""
    numbers = np.unique(training.folds)
    if len(numbers) == 1:
        return []
    folds: list[Fold] = []
    for number in numbers:
        is_held = training.folds == number
        rest = training.rows(~is_held)
        folds.append(Fold(is_held, rest, cluster(rest.batch.embeddings, sizes)))
    return folds


def choose_smoothing(
    training: Training, folds: Sequence[Fold], sizes: Sequence[int], grid: Grid
) -> Smoothing:
    """That of least error, categories weighing equally; of equal ones the first of the grid.

    Args:
        training: All rows.
        folds: With clusterings of all sizes.
        sizes: Numbers of clusters.
        grid: The rest.
    """
    trials = [Smoothing(*each) for each in product(sizes, grid.top_k, grid.beta, grid.shrinkage)]
    if len(trials) == 1 or not folds:
        return trials[0]
    sums = dict.fromkeys(trials, 0.0)
    for fold in folds:
        score, weights = training.score[fold.is_held], training.weights[fold.is_held]
        batch = training.batch.rows(fold.is_held)
        for size in sizes:
            for smoothing, predicted in _predictions(fold, batch, size, grid):
                errors = advantage_errors(predicted, score)
                sums[smoothing] += float(np.nansum(weights * errors))
    return min(trials, key=lambda smoothing: sums[smoothing])


def shrunk_means(
    values: Float32Array, labels: Int64Array, n_clusters: int, prior: Float32Array, shrinkage: float
) -> Float64Array:
    """Mean values [c + 1, m] in each cluster, and the prior in the last row; NaN: unknown.

    Args:
        values: [n, m]; NaN: unknown, does not count.
        labels: Each row's cluster [n].
        n_clusters: c.
        prior: What is shrunk towards [m]; NaN: nothing is known of the expert.
        shrinkage: Weight of the prior, in queries.
    """
    known = ~np.isnan(values)
    of_cluster = np.equal.outer(np.arange(n_clusters), labels).astype(np.float32)
    counts = (of_cluster @ known.astype(np.float32)).astype(np.float64)
    sums = (of_cluster @ np.where(known, values, np.float32(0))).astype(np.float64)
    overall = np.tile(prior.astype(np.float64), (n_clusters + 1, 1))
    above, below = sums + shrinkage * overall[:-1], counts + shrinkage
    np.divide(above, below, out=overall[:-1], where=below > 0)
    return overall


def _predictions(
    fold: Fold, batch: Batch, size: int, grid: Grid
) -> Iterator[tuple[Smoothing, Float32Array]]:
    """What each smoothing of a size predicts for the rows held out, [h, m]."""
    centres, labels = fold.clusterings[size]
    distances = distances_to(batch.embeddings, centres)
    score, prior = fold.rest.score, fold.rest.prior
    means = {
        shrinkage: shrunk_means(score, labels, len(centres), prior, shrinkage)[:-1]
        for shrinkage in grid.shrinkage
    }
    for top_k, beta in product(grid.top_k, grid.beta):
        shares = memberships(distances, top_k, beta)
        for shrinkage in grid.shrinkage:
            predicted = (shares @ means[shrinkage]).astype(np.float32)
            yield Smoothing(size, top_k, beta, shrinkage), predicted
