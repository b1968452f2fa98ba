"""What a known category adds to raw scores: one number an expert and category, shrunk to none.

A query's text tells its category most of the time, so little is left to add; and what is added is
fitted to held-out raw scores, so that a category is not credited with what its rows were learned by
heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from routers.learned.network import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

PRECISION = 20.0
"""Of the Gaussian prior: a category of so many queries of which an expert gets half right weighs
a fifth of what it says."""
_N_STEPS = 8


def category_offsets(
    raw: Float32Array, score: Float32Array, codes: NDArray[np.int64], n_categories: int
) -> Float32Array:
    """What is added to the raw scores of each category [c, m], by cross-entropy on the logits.

    Args:
        raw: Held-out logits [n, m]; NaN: unknown.
        score: What was recorded, [n, m] in [0, 1]; NaN: unknown.
        codes: Each row's category [n]; n_categories: none, which is added nothing.
        n_categories: c.
    """
    member = np.eye(n_categories + 1, dtype=np.float32)[codes, :n_categories].T
    is_known = ~np.isnan(raw) & ~np.isnan(score)
    logits, known = np.where(is_known, raw, 0), is_known.astype(np.float32)
    right = np.where(is_known, score, 0)
    offsets = np.zeros((n_categories + 1, score.shape[1]), np.float32)
    for _ in range(_N_STEPS):
        p = known * sigmoid(logits + offsets[codes])
        slope = member @ (right - p) - np.float32(PRECISION) * offsets[:-1]
        curvature = member @ (p * (1 - p)) + np.float32(PRECISION)
        # Where all is sure and wrong there is next to no curvature, and a step would go too far.
        offsets[:-1] += np.clip(slope / curvature, -1, 1)
    return offsets[:-1]


def category_numbers(categories: Sequence[str | None], names: Sequence[str]) -> NDArray[np.int64]:
    """Each category's index in `names` [n]; len(names) where it is not known, or none of them."""
    number = {name: code for code, name in enumerate(names)}
    return np.array([number.get(each or "", len(names)) for each in categories], np.int64)
