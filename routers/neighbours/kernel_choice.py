"""Which kernel a nearest-neighbours router uses: chosen by cross-validation on its training table.

What is minimised is the squared error of the predicted advantage, see `routers.advantage`, each
category weighing equally.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from routers.advantage import advantage_errors, macro_mean
from routers.index import FlatIndex
from routers.kernel import Kernel, batches, kernel_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

KS = (5, 10, 20, 40, 80, 160, 320)
TEMPERATURES = (0.05, 0.1, 0.15, 0.2, 0.3, 100.0)
SHRINKAGES = (0.5, 2.0, 5.0, 10.0)
SPARE = 16
"""Neighbours searched beyond k, for those that are as near as the k-th."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The kernels to choose among."""

    ks: tuple[int, ...] = KS
    temperatures: tuple[float, ...] = TEMPERATURES
    shrinkages: tuple[float, ...] = SHRINKAGES

    @property
    def kernels(self) -> list[Kernel]:
        """All of them."""
        return [Kernel(*each) for each in product(self.ks, self.temperatures, self.shrinkages)]


def choose_kernel(
    embeddings: Float32Array,
    targets: Float32Array,
    prior: Float32Array,
    categories: NDArray[np.int64],
    folds: NDArray[np.int64],
    grid: Grid,
) -> Kernel:
    """The kernel of least error over held-out folds; of equal ones the first of the grid.

    Args:
        embeddings: Of n recorded queries, [n, d], unit norm.
        targets: [n, m]; NaN: unknown.
        prior: What is shrunk towards, [m].
        categories: Each query's category [n], by number.
        folds: Each query's fold [n]: its neighbours are those of other folds.
        grid: The kernels.
    """
    if len(grid.kernels) == 1 or len(np.unique(folds)) == 1:
        return grid.kernels[0]
    errors = {kernel: np.full(len(targets), np.nan) for kernel in grid.kernels}
    for fold in np.unique(folds):
        held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        index = FlatIndex(embeddings[others])
        k = min(max(grid.ks) + SPARE, index.size)
        for rows in batches(held, k, targets.shape[1]):
            similarity, ids = index.top_k(embeddings[rows], k)
            means = kernel_grid(
                similarity,
                targets[others][ids],
                prior,
                ks=grid.ks,
                temperatures=grid.temperatures,
                shrinkages=grid.shrinkages,
            )
            for kernel, predicted in means:
                errors[kernel][rows] = advantage_errors(predicted, targets[rows])
    return min(errors, key=lambda kernel: macro_mean(errors[kernel], categories))
