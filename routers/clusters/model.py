"""Clusters of recorded queries, and what each expert is worth in each of them.

    raw_j = sum_c p_c value_cj    p = softmax(-beta * (1 - z . centre_c)) over the top_k nearest c

of a query z, the mean over several clusterings; a query that is farther from every centre than
almost all recorded ones belongs to no cluster, and is given the values that hold overall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from composer.types import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Arrays, Batch

    Float64Array = NDArray[np.float64]

Mode = Literal["means", "ranks", "pro"]
TIED = 1e-6
"""Distances this near are equal."""
OVERALL = "overall"
_ARRAYS = ("centres", "sizes", "values", "means")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What clusters are made and compared by; see `routers.clusters.ClustersLearner`."""

    n_clusters: int
    top_k: int
    beta: float
    shrinkage: float
    mode: Mode
    performance_weight: float
    n_clusterings: int
    guard: float | None


@dataclass(frozen=True, eq=False)
class ClustersModel:
    """c clusters, of one or more clusterings, and m experts. See `routers.learning.Model`."""

    chosen: ClusterSettings
    topics: tuple[str, ...]
    """The category that is most frequent in each cluster [c]; "": its queries have none."""
    bounds: tuple[int, ...]
    """The first cluster of each clustering, and c."""
    reach: tuple[float, ...]
    """A query whose nearest centre is farther belongs to no cluster of a clustering."""
    centres: Float32Array
    """[c, d]."""
    sizes: NDArray[np.int64]
    """Recorded queries in each cluster [c]."""
    values: Float64Array
    """[c + 1, m]; the last row holds overall; NaN: nothing is known of the expert."""
    means: Float64Array
    """What they are made of: shrunk mean scores [c + 1, m]."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Model.settings`."""
        return asdict(self.chosen)

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        return (self._shares(batch) @ self.values).astype(np.float32)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`."""
        if np.isnan(self.values[0, column]):
            return Evidence("no outcome of it is known")
        shares = self._shares(batch.rows(np.array([row])))[0]
        means, values = self.means[:, column], self.values[:, column]
        if shares[-1] == 1:
            return Evidence(
                f"unlike all recorded queries; mean score {means[-1]:.2f} overall",
                {"parts": {OVERALL: float(values[-1])}},
            )
        counting = [int(c) for c in np.argsort(-shares, kind="stable") if shares[c]]
        nearest = next(c for c in counting if c < len(self.centres))
        return Evidence(
            f"mean score {means[nearest]:.2f} in {self._name(nearest)} of {self.sizes[nearest]} "
            f"recorded queries, which counts {shares[nearest]:.0%}; {means[-1]:.2f} overall",
            {
                "parts": {self._name(c): float(shares[c] * values[c]) for c in counting},
                "shares": {self._name(c): float(shares[c]) for c in counting},
                "means": {self._name(c): float(means[c]) for c in counting},
            },
        )

    def without(self, column: int) -> ClustersModel:
        """See `Model.without`; values made of ranks are not ranked anew."""
        values, means = (np.delete(each, column, axis=1) for each in (self.values, self.means))
        return replace(self, values=values, means=means)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {
            "settings": asdict(self.chosen),
            "topics": self.topics,
            "bounds": self.bounds,
            "reach": self.reach,
        }
        return meta, {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def restore(cls, meta: Mapping[str, Any], arrays: Arrays) -> Self:
        """The model of which `state` gave this.

        Raises:
            KeyError: Something is missing.
        """
        chosen = ClusterSettings(**meta["settings"])
        own = {name: arrays[name] for name in _ARRAYS}
        topics, bounds, reach = (tuple(meta[name]) for name in ("topics", "bounds", "reach"))
        return cls(chosen, topics, bounds, reach, **own)

    def _shares(self, batch: Batch) -> Float64Array:
        """How much each cluster counts for n queries [n, c + 1]; the last: what holds overall."""
        distances = distances_to(batch.embeddings, self.centres)
        parts: list[Float64Array] = []
        overall = np.zeros((len(batch), 1))
        for start, end, reach in zip(self.bounds, self.bounds[1:], self.reach, strict=False):
            own = distances[:, start:end]
            is_far = own.min(axis=1, keepdims=True) > reach
            parts.append(np.where(is_far, 0, memberships(own, self.chosen.top_k, self.chosen.beta)))
            overall += is_far
        return np.concatenate([*parts, overall], axis=1) / len(self.reach)

    def _name(self, c: int) -> str:
        if c == len(self.centres):
            return OVERALL
        topic = self.topics[c]
        return f"cluster {c} ({topic})" if topic else f"cluster {c}"


def distances_to(embeddings: Float32Array, centres: Float32Array) -> Float64Array:
    """1 - z . c of n queries and c centres, [n, c]."""
    return (1 - embeddings @ centres.T).astype(np.float64)


def memberships(distances: Float64Array, top_k: int, beta: float) -> Float64Array:
    """How much each of the nearest clusters counts, [n, c]; those as near as the last count too."""
    k = min(top_k, distances.shape[1])
    last = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
    nearest = distances.min(axis=1, keepdims=True)
    shares = np.where(distances <= last + TIED, np.exp(-beta * (distances - nearest)), 0)
    return shares / shares.sum(axis=1, keepdims=True)


def cluster_values(
    means: Float64Array, costs: Float64Array | None, mode: Mode, performance_weight: float
) -> Float64Array:
    """What experts are worth in clusters [c, m]; NaN: unknown.

    Args:
        means: Mean scores [c, m]; NaN: unknown.
        costs: Mean costs in USD [c, m]; NaN: unknown. For `pro` alone.
        mode: See `routers.clusters.learner`.
        performance_weight: For `pro` alone.
    """
    if mode == "means":
        return means
    if mode == "ranks":
        return 1 / (_ranks(means) + 0.1)
    assert costs is not None, "fit refuses"
    least, spread = -_most(-means), _most(means) + _most(-means)
    accuracy = np.divide(means - least, spread, out=np.ones_like(means), where=spread > 0)
    dearest = _most(costs)
    thrift = 1 - np.divide(costs, dearest, out=np.zeros_like(costs), where=dearest > 0)
    worth = performance_weight * accuracy + (1 - performance_weight) * thrift
    return 1 / (_ranks(np.where(np.isnan(means + costs), np.nan, worth)) + 1)


def _ranks(values: Float64Array) -> Float64Array:
    """Ranks from 0, the highest first [c, m]; equal ones share the mean of their ranks."""
    here, there = values[:, :, None], values[:, None, :]
    n_above, n_equal = (there > here).sum(axis=2), (there == here).sum(axis=2)
    return np.where(np.isnan(values), np.nan, n_above + (n_equal - 1) / 2)


def _most(values: Float64Array) -> Float64Array:
    """The most of what is known in each cluster [c, 1]; minus infinity: nothing is."""
    return np.max(values, axis=1, keepdims=True, where=~np.isnan(values), initial=-np.inf)
