"""The terms of an additive score, and how much each is to count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning import Float64Array, Int64Array

    BoolArray = NDArray[np.bool_]

MOST_LOCAL = 10.0
"""Some thirty skills' mean says too little of how far an expert stands out, not much more so."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What n queries' scores of m experts are made of, all [n, m], in right less wrong.

    NaN: unknown.
    """

    overall: Float64Array
    local: Float64Array
    """How far experts stand out at the query's skills."""
    category: Float64Array
    """How far they stand out in its category; 0 where it is not told."""
    is_told: BoolArray
    """Whether the category is [n]."""

    @classmethod
    def unknown(cls, n: int, m: int) -> Self:
        """Terms to be put in."""
        empty = np.full((n, m), np.nan)
        return cls(empty, empty.copy(), empty.copy(), np.zeros(n, bool))

    def put(self, rows: BoolArray | Int64Array, terms: Terms) -> None:
        """Put in the terms of some rows."""
        self.overall[rows], self.local[rows] = terms.overall, terms.local
        self.category[rows], self.is_told[rows] = terms.category, terms.is_told

    def hidden(self, local_weight: float) -> Float64Array:
        """The scores [n, m], whatever the category."""
        return self.overall + local_weight * self.local

    def known(self, local_weight: float, category_weight: float) -> Float64Array:
        """The scores [n, m], by the category where it is told."""
        share = category_weight * self.is_told[:, None]
        local = local_weight * self.local
        return self.overall + (1 - share) * local + share * self.category


def fit_local_weight(terms: Terms, target: Float64Array, weights: Float64Array) -> float:
    """How much the local term is to count, in [0, 10]: least squares of the advantage.

    Args:
        terms: Held out.
        target: [n, m], right less wrong.
        weights: Of each row [n].
    """
    slope = _slope(target - terms.overall, terms.local, weights)
    return 1.0 if slope is None else float(np.clip(slope, 0, MOST_LOCAL))


def fit_category_weight(
    terms: Terms, local_weight: float, target: Float64Array, weights: Float64Array
) -> float:
    """How much of the scores a category that is told is to make up, in [0, 1]; as above."""
    hidden = terms.hidden(local_weight)
    change = terms.known(local_weight, 1) - hidden
    slope = _slope(target - hidden, change, weights)
    return 1.0 if slope is None else float(np.clip(slope, 0, 1))


def _slope(residual: Float64Array, term: Float64Array, weights: Float64Array) -> float | None:
    """The factor of a term that explains most of how residuals differ within rows."""
    known = ~np.isnan(residual) & ~np.isnan(term)
    residual, term = _centred(residual, known), _centred(term, known)
    below = float((weights[:, None] * term**2).sum())
    return float((weights[:, None] * residual * term).sum()) / below if below > 0 else None


def _centred(values: Float64Array, known: BoolArray) -> Float64Array:
    """The known values less their row's mean; 0 where unknown."""
    sums = np.where(known, values, 0).sum(axis=1, keepdims=True)
    means = sums / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, values - means, 0)
