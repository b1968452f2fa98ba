"""Groups embeddings that lie together: k-means on their leading principal axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    from composer.types import Float32Array
    from routers.index import Int64Array

AXES = 64
"""Principal axes that k-means works on: it is fast there, and the rest is mostly noise to it."""
_MAX_ITERATIONS = 30
_SEED = 0


class Clustering(NamedTuple):
    """n embeddings in K groups."""

    centres: Float32Array
    """[K, d], the means of the groups: shorter than 1 where what they average is of unit norm."""
    labels: Int64Array
    """Each embedding's group [n]."""


def cluster(embeddings: Float32Array, sizes: Iterable[int]) -> dict[int, Clustering]:
    """Cluster the same embeddings into several numbers of groups; deterministic.

    Args:
        embeddings: [n, d], n >= 1.
        sizes: Numbers of groups; where there are fewer distinct embeddings, so many come out.

    Returns:
        A clustering a size, without empty groups.
    """
    sizes = list(sizes)
    return dict(
        zip(sizes, _clusterings(embeddings, [(size, _SEED) for size in sizes]), strict=True)
    )


def cluster_again(embeddings: Float32Array, size: int, n: int) -> tuple[Clustering, ...]:
    """Cluster the same embeddings n times from different beginnings; deterministic.

    k-means ends in one of many nearly equal groupings, and which one hangs on the last digits: what
    n of them say on the average does so less. The first is that of `cluster`.
    """
    return tuple(_clusterings(embeddings, [(size, _SEED + i) for i in range(n)]))


def _clusterings(
    embeddings: Float32Array, wanted: Sequence[tuple[int, int]]
) -> Iterator[Clustering]:
    """A clustering for each size and seed."""
    # BLAS waits by spinning, which starves whatever runs beside it.
    from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

    with threadpool_limits(1):
        points = _projected(embeddings)
        # Distinct only by rounding is the same: k-means would warn of groups it cannot fill.
        most = len(np.unique(np.round(points, 5), axis=0))
        for size, seed in wanted:
            yield _centred(embeddings, _labels(points, min(size, most), seed))


def _projected(embeddings: Float32Array) -> Float32Array:
    from sklearn.utils.extmath import (  # pyright: ignore[reportMissingTypeStubs]
        randomized_svd,  # pyright: ignore[reportUnknownVariableType]
    )

    centred = embeddings - embeddings.mean(axis=0)
    if min(centred.shape) <= AXES:
        return centred
    _, _, axes = cast("Any", randomized_svd)(
        centred, n_components=AXES, n_iter=2, random_state=_SEED
    )
    return centred @ axes.T


def _labels(points: Float32Array, size: int, seed: int) -> Int64Array:
    from sklearn.cluster import KMeans  # pyright: ignore[reportMissingTypeStubs]

    make = cast("Any", KMeans)
    kmeans = make(size, n_init=1, max_iter=_MAX_ITERATIONS, tol=1e-3, random_state=seed)
    return kmeans.fit(points).labels_.astype(np.int64)


def _centred(embeddings: Float32Array, labels: Int64Array) -> Clustering:
    _, labels = np.unique(labels, return_inverse=True)
    membership = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    centres = (membership.T @ embeddings) / membership.sum(axis=0)[:, None]
    return Clustering(centres, labels.astype(np.int64))
