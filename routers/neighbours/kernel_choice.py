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
from routers.kernel import Kernel, batches, kernel_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.neighbours.nearest import Nearest

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
    nearest: Nearest,
    targets: Float32Array,
    prior: Float32Array,
    categories: NDArray[np.int64],
    grid: Grid,
) -> Kernel:
    """The kernel of least error on held-out queries; of equal ones the first of the grid.

    Args:
        nearest: Of n recorded queries, those of other folds, `SPARE` more than the most that count.
        targets: [n, m]; NaN: unknown.
        prior: What is shrunk towards, [m].
        categories: Each query's category [n], by number.
        grid: The kernels.
    """
    if len(grid.kernels) == 1 or np.isneginf(nearest.similarity).all():
        return grid.kernels[0]
    errors = {kernel: np.full(len(targets), np.nan) for kernel in grid.kernels}
    for rows in batches(np.arange(len(targets)), nearest.ids.shape[1], targets.shape[1]):
        means = kernel_grid(
            nearest.similarity[rows],
            targets[nearest.ids[rows]],
            prior,
            ks=grid.ks,
            temperatures=grid.temperatures,
            shrinkages=grid.shrinkages,
        )
        for kernel, predicted in means:
            errors[kernel][rows] = advantage_errors(predicted, targets[rows])
    return min(errors, key=lambda kernel: macro_mean(errors[kernel], categories))
