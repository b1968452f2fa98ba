"""What queries are about: probabilities of categories, and whether they are sure enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

Assignment = Literal["soft", "hard"]
Uncertainty = Literal["probability", "entropy", "distance"]
NOT_KNOWN = -1
"""A category's number: nobody said which, or none of the recorded ones."""
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Reading:
    """What n queries are about."""

    p: Float64Array
    """Probabilities of s categories [n, s]; 1 for a known one."""
    confidence: Float64Array
    """[n] in [0, 1]; 1 where the category is known."""
    is_certain: NDArray[np.bool_]
    """Whether the confidence is enough [n]."""

    @property
    def likeliest(self) -> Int64Array:
        """Each query's likeliest category [n]; s: uncertain."""
        return np.where(self.is_certain, self.p.argmax(axis=1), self.p.shape[1])

    def weights(self, assign: Assignment) -> Float64Array:
        """How much each category counts [n, s]: its probability, or 1 for the likeliest."""
        return self.p if assign == "soft" else np.eye(self.p.shape[1])[self.p.argmax(axis=1)]

    def raw(self, assign: Assignment, means: Float64Array, overall: Float64Array) -> Float32Array:
        """The means that m experts can expect [n, m]: of the categories, or overall.

        Args:
            assign: How categories count.
            means: In each category [s, m].
            overall: [m].
        """
        expected = self.weights(assign) @ means
        return np.where(self.is_certain[:, None], expected, overall).astype(np.float32)


def make_reading(
    p: Float64Array,
    closeness: Float64Array,
    known: Int64Array,
    uncertainty: Uncertainty,
    threshold: float,
) -> Reading:
    """Read n queries.

    Args:
        p: What a classifier makes of them, [n, s].
        closeness: Cosine to the nearest centre of a category [n].
        known: Each query's category [n], or `NOT_KNOWN`.
        uncertainty: What the confidence is measured by: the largest probability, 1 - entropy as a
            share of the largest possible, or the closeness.
        threshold: A query of less confidence is uncertain.
    """
    is_known = known != NOT_KNOWN
    p = np.where(is_known[:, None], np.eye(p.shape[1])[known], p)
    if uncertainty == "probability":
        confidence = p.max(axis=1)
    elif uncertainty == "entropy":
        entropy = -(p * np.log(np.maximum(p, _LEAST))).sum(axis=1)
        confidence = 1 - entropy / np.log(max(2, p.shape[1]))
    else:
        confidence = closeness
    confidence = np.where(is_known, 1.0, np.clip(confidence, 0, 1))
    return Reading(p, confidence, confidence >= threshold)


def closeness_to(centres: Float32Array, embeddings: Float32Array) -> Float64Array:
    """Cosine of each embedding to the nearest centre [n]; all have unit norm."""
    return (embeddings @ centres.T).max(axis=1).astype(np.float64)


def centres_of(embeddings: Float32Array, codes: Int64Array, n_categories: int) -> Float32Array:
    """The categories' mean directions [s, d]; nothing is near to one without a row.

    Args:
        embeddings: Of n rows, [n, d].
        codes: Each row's category [n].
        n_categories: s.
    """
    is_in = (codes[:, None] == np.arange(n_categories)).astype(np.float32)
    sums = is_in.T @ embeddings
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
