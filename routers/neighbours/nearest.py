"""Each recorded query's nearest neighbours in the other folds, searched for once.

What cross-validation asks of them, whatever the kernel and whatever the category's bonus, is
answered from two searches: among all queries, and among those of the same category.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.index import FlatIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.index import Int64Array


@dataclass(frozen=True, eq=False)
class Nearest:
    """The K nearest of each of n queries."""

    similarity: Float32Array
    """[n, K], descending; -inf: there are no more."""
    ids: Int64Array
    """[n, K], their numbers."""


def nearest_elsewhere(
    embeddings: Float32Array,
    folds: Int64Array,
    groups: Int64Array,
    counts: NDArray[np.bool_],
    k: int,
) -> Nearest:
    """Each query's k nearest of its own group in other folds.

    Args:
        embeddings: [n, d], unit norm.
        folds: Each query's fold [n].
        groups: Each query's group [n].
        counts: Whether each query [n] can be a neighbour; where none can, all are.
        k: How many.
    """
    similarity = np.full((len(folds), k), -np.inf, np.float32)
    ids = np.zeros((len(folds), k), np.int64)
    for group in np.unique(groups):
        is_one = groups == group
        for fold in np.unique(folds[is_one]):
            elsewhere = is_one & (folds != fold)
            is_wanted = elsewhere & counts
            others = np.flatnonzero(is_wanted if is_wanted.any() else elsewhere)
            if not len(others):
                continue
            held = np.flatnonzero(is_one & (folds == fold))
            n_found = min(k, len(others))
            found, of_others = FlatIndex(embeddings[others]).top_k(embeddings[held], n_found)
            similarity[held, :n_found], ids[held, :n_found] = found, others[of_others]
    return Nearest(similarity, ids)


def with_bonus(nearest: Nearest, of_category: Nearest, codes: Int64Array, bonus: float) -> Nearest:
    """The nearest where queries of the same category are nearer by a bonus.

    Args:
        nearest: Among all queries.
        of_category: Among those of the same category, as many.
        codes: Each query's category [n].
        bonus: What is added to the cosine.
    """
    # Those of the same category come from the second search alone, so that none comes twice.
    is_same = codes[nearest.ids] == codes[:, None]
    others = np.where(is_same, np.float32(-np.inf), nearest.similarity)
    similarity = np.concatenate([of_category.similarity + np.float32(bonus), others], axis=1)
    ids = np.concatenate([of_category.ids, nearest.ids], axis=1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : nearest.ids.shape[1]]
    return Nearest(
        np.take_along_axis(similarity, order, axis=1), np.take_along_axis(ids, order, axis=1)
    )
