"""Which category each training row is in: the recorded one, or a cluster of the embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from composer.errors import ConfigError
from routers.category.reading import NOT_KNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Training

    Int64Array = NDArray[np.int64]

CategoryKind = Literal["recorded", "clusters"]
ROWS_A_CLUSTER = 16
"""Fewer clusters are made where they would have fewer rows than this in the mean."""
_DECIMALS = 3
"""Embeddings that agree so far are one point: k-means finds no more clusters than points."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The categories of n rows."""

    kind: CategoryKind
    names: tuple[str, ...]
    codes: Int64Array
    """[n], an index of `names`, or `NOT_KNOWN`."""


def make_labels(training: Training, kind: CategoryKind | None, n_clusters: int) -> Labels:
    """The rows' categories.

    Args:
        training: Clusters look at its embeddings, never at its scores.
        kind: None: recorded, or clusters where fewer than two categories are recorded.
        n_clusters: At most so many clusters.

    Raises:
        ConfigError: The recorded ones are asked for, and there are fewer than two.
    """
    names = tuple(sorted({name for name in training.batch.categories if name}))
    if kind == "recorded" and len(names) < 2:
        raise ConfigError(
            "router 'category': fewer than two categories are recorded; set 'categories' to "
            "'clusters', or leave it out"
        )
    if kind == "clusters" or len(names) < 2:
        codes = _clusters(training.batch.embeddings, n_clusters)
        return Labels("clusters", tuple(f"cluster {c + 1}" for c in range(codes.max() + 1)), codes)
    number = {name: code for code, name in enumerate(names)}
    codes = [number.get(name or "", NOT_KNOWN) for name in training.batch.categories]
    return Labels("recorded", names, np.array(codes, np.int64))


def _clusters(embeddings: Float32Array, n_clusters: int) -> Int64Array:
    """Each row's cluster [n], numbered from the largest."""
    from sklearn.cluster import KMeans  # pyright: ignore[reportMissingTypeStubs]

    points = np.round(embeddings, _DECIMALS)
    n = min(n_clusters, len(points) // ROWS_A_CLUSTER, len(np.unique(points, axis=0)))
    means = cast("Any", KMeans)(n_clusters=max(1, n), n_init=3, random_state=0)
    _, codes = np.unique(means.fit_predict(points), return_inverse=True)
    by_size = np.argsort(-np.bincount(codes), kind="stable")
    return np.argsort(by_size)[codes].astype(np.int64)
