"""How well each expert does in each category, however few outcomes there are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning import Training

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tally:
    """What is recorded of m experts in s categories."""

    sums: Float64Array
    """Of the known scores [s, m]."""
    known: Float64Array
    """How many are [s, m]."""
    overall: Float64Array
    """Each expert's mean, the categories weighing equally [m]; NaN: nothing is known of it."""
    excess: Float64Array
    """Sum over the rows [s] of the mean by which their known scores exceed the experts' means."""
    rows: Float64Array
    """Of each category [s]."""


def tally(training: Training, codes: Int64Array, n_categories: int) -> Tally:
    """Sum up a training.

    Args:
        training: n rows; of some experts nothing may be known.
        codes: Each row's category [n], 0 to s - 1; a negative one: none.
        n_categories: s.
    """
    score = training.score.astype(np.float64)
    is_known = ~np.isnan(score)
    overall = training.prior.astype(np.float64)
    known_of_row = np.maximum(is_known.sum(axis=1), 1)
    excess = np.where(is_known, score - overall, 0).sum(axis=1) / known_of_row
    is_in = (codes[:, None] == np.arange(n_categories)).astype(np.float64)
    return Tally(
        is_in.T @ np.where(is_known, score, 0),
        is_in.T @ is_known,
        overall,
        is_in.T @ excess,
        is_in.sum(axis=0),
    )


def shrunk_means(tallied: Tally, shrinkage: float) -> Float64Array:
    """Each expert's mean in each category [s, m], shrunk; NaN: nothing is known of the expert.

    It is shrunk towards the expert's overall mean, moved by what all experts score more or less in
    the category, which is shrunk towards nothing: so an expert that was never asked in a hard
    category does not come out best there.

    Args:
        tallied: Of the training.
        shrinkage: Weight of what is shrunk towards, in rows.
    """
    below = tallied.rows + shrinkage
    ease = np.divide(tallied.excess, below, out=np.zeros_like(below), where=below > 0)
    towards = tallied.overall + ease[:, None]
    weight = tallied.known + shrinkage
    total = tallied.sums + shrinkage * towards
    return np.divide(total, weight, out=towards, where=(weight > 0) & ~np.isnan(towards))
