"""How good each expert is at each skill: sums of right (+1) and wrong (-1). Pure.

Source: Symbolic-MoE (arXiv 2503.05641), dinobby/Symbolic-MoE at d6c2e0d (create_profile.py,
recruit_agents.py). A score s in [0, 1] counts 2 s - 1, so that fractions have their place; an
unknown one does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Float64Array, Int64Array

    BoolArray = NDArray[np.bool_]

Mode = Literal["additive", "code", "paper"]
PAPER_TEMPERATURE = 0.5


@dataclass(frozen=True, eq=False)
class Skilled:
    """The skills of n queries, at most q each."""

    codes: Int64Array
    """[n, q], numbers of skills; where a query has fewer: any."""
    weights: Float64Array
    """[n, q], how often each counts; 0: it does not."""

    @property
    def shares(self) -> Float64Array:
        """The weights [n, q] as shares of their sums; all 0 for a query without skills."""
        return self.weights / np.maximum(self.weights.sum(axis=1, keepdims=True), 1e-12)

    def rows(self, wanted: BoolArray | Int64Array) -> Skilled:
        """Those of some of the queries."""
        return Skilled(self.codes[wanted], self.weights[wanted])

    def known(self, is_known: BoolArray) -> Skilled:
        """Those of the skills of which something is known [v]; others do not count."""
        return Skilled(self.codes, self.weights * is_known[self.codes])


@dataclass(frozen=True, eq=False)
class Profiles:
    """What m experts did on the queries of each of v skills."""

    sums: Float64Array
    """[v, m], right less wrong."""
    counts: Float64Array
    """[v, m], of how many known outcomes."""

    @property
    def is_known(self) -> BoolArray:
        """Whether any expert has an outcome of a skill [v]."""
        return np.asarray((self.counts > 0).any(axis=1))

    def deviations(self, overall: Float64Array, shrinkage: float) -> Float64Array:
        """How much better than overall experts are at skills [v, m], in [-2, 2].

        Args:
            overall: Each expert's mean, right less wrong [m]; NaN: unknown.
            shrinkage: As many outcomes as usual are added to each skill's.
        """
        usual = np.nan_to_num(overall)
        n = np.maximum(self.counts + shrinkage, 1e-12)
        return (self.sums - self.counts * usual) / n

    def without(self, column: int) -> Profiles:
        """The profiles without an expert."""
        return Profiles(np.delete(self.sums, column, 1), np.delete(self.counts, column, 1))


def make_profiles(skilled: Skilled, score: Float32Array, n_skills: int) -> Profiles:
    """Count each query's outcomes [n, m] towards each of its skills, as often as it has them."""
    weights = skilled.weights.ravel()
    codes, rows = skilled.codes.ravel(), np.repeat(np.arange(len(score)), skilled.codes.shape[1])
    known = ~np.isnan(score)
    signed = np.where(known, 2.0 * score - 1, 0.0)

    def count(values: Float64Array) -> Float64Array:
        columns = [
            np.bincount(codes, weights * column[rows], minlength=n_skills) for column in values.T
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    return Profiles(count(signed), count(known.astype(np.float64)))


def add_up(values: Float64Array, codes: Int64Array, weights: Float64Array) -> Float64Array:
    """Each query's weighted sum [n, m] of its skills' values [v, m]."""
    total = np.zeros((len(codes), values.shape[1]))
    for of_queries, weight in zip(codes.T, weights.T, strict=True):
        total += weight[:, None] * values[of_queries]
    return total


def competency(sums: Float64Array, mode: Mode) -> Float64Array:
    """Each expert's global competency [m], as a share of the pool's.

    The total of its profile, moved up where one is negative until the least is 1; `code`: squared.
    An expert with an empty profile has the total 0, as in the source.
    """
    total = sums.sum(axis=0)
    if (total < 0).any():
        total = total - total.min() + 1
    if mode == "code":
        total = total**2
    return total / max(float(total.sum()), 1e-12)


def suitability(local: Float64Array, share: Float64Array, mode: Mode) -> Float64Array:
    """The source's score [n, m] of local sums [n, m] and the experts' competency [m].

    `code`: their product where the sum is positive; other experts are no candidates there, and
    have the sum itself, which is below every candidate's. `paper`: the logit of its softmax, which
    is the product by the temperature.
    """
    if mode == "paper":
        return local * share / PAPER_TEMPERATURE
    return np.where(local > 0, local * share, local)
