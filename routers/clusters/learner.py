"""Routes to the experts that did best on the clusters of recorded queries nearest to the query.

Recorded queries are clustered by k-means, and each expert's mean score in each cluster is what it
is worth there. A query belongs in part to the clusters nearest to it.

Sources: Avengers, arXiv 2505.19797, code github.com/ZhangYiqun018/Avengers at 168bcb9
(core/generate_rank_router.py, core/routing/rank_router.py): `mode: ranks`; Avengers-Pro,
arXiv 2508.12631, code github.com/ZhangYiqun018/AvengersPro (balance_cluster_router.py):
`mode: pro`. As there, distances are 1 - the inner product with centres not scaled to unit norm, so
that tight clusters are nearer.

Deviations:
- There an expert's worth in a cluster is 1 / (its rank + 0.1), so that a cluster won by a hair
  counts as much as one won by far. `mode: means` takes the mean scores themselves.
- There a cluster of two queries is believed as one of two hundred. Here means are shrunk towards
  the expert's overall mean, in every mode.
- There ties go by the order of the experts in a file. Here equal experts share their mean rank.
- There one run of k-means. Here the mean of `n_clusterings`, from different beginnings: one ends
  where the last digits of the embeddings take it.
- There an expert without a recorded cost is free in Avengers-Pro. Here `mode: pro` is refused.
- There 64 clusters (Pro: 25 to 60) and given temperatures. Here numbers, temperature and shrinkage
  are chosen by the held-out error on the training table, unless given, and k-means works on the 64
  leading principal axes; centres and distances are of the whole embeddings.
- There a query unlike all recorded ones goes to the nearest cluster all the same. Here it is given
  the overall means, by the `guard`.
- There 10 samples are drawn of each of the experts chosen, and voted on. That is no routing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from composer.errors import ConfigError
from routers.clusters.choice import Grid, choose_smoothing, make_folds, shrunk_means
from routers.clusters.model import (
    TIED,
    ClusterSettings,
    ClustersModel,
    Mode,
    cluster_values,
    distances_to,
)
from routers.kmeans import cluster_again
from routers.learning import Lesson
from routers.settings import check_choice, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.kmeans import Clustering
    from routers.learning import Arrays, Training

    Float64Array = NDArray[np.float64]

_BOUNDLESS = 3.0
"""Farther than any query is from a centre."""


class ClustersLearner:
    """Learns clusters. See `routers.learning.Learner`.

    Args:
        n_clusters: Fewer come out where queries have fewer distinct embeddings; None: chosen by the
            held-out error, as are the next three.
        top_k: Clusters of each clustering that a query belongs to.
        beta: How much more the nearer ones of them count.
        shrinkage: Weight of an expert's overall mean, in queries of a cluster.
        mode: What an expert is worth in a cluster. `means`: its mean score. `ranks`: Avengers.
            `pro`: Avengers-Pro, which weighs scores against costs.
        performance_weight: Of the score in `pro`; the cost has the rest. The default is where the
            source reports its best expert's accuracy at two thirds of the cost.
        n_clusterings: Runs of k-means; what is predicted is the mean of theirs.
        guard: A query that is farther from its nearest centre than this share of the recorded ones
            belongs to no cluster; None: none is too far.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "clusters"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        *,
        n_clusters: int | None = None,
        top_k: int | None = None,
        beta: float | None = None,
        shrinkage: float | None = None,
        mode: Mode = "means",
        performance_weight: float = 0.53,
        n_clusterings: int = 4,
        guard: float | None = 0.99,
    ) -> None:
        check_number(self.name, "n_clusters", n_clusters, least=1, whole=True, optional=True)
        check_number(self.name, "top_k", top_k, least=1, whole=True, optional=True)
        check_number(self.name, "beta", beta, optional=True)
        check_number(self.name, "shrinkage", shrinkage, optional=True)
        check_choice(self.name, "mode", mode, get_args(Mode))
        check_number(self.name, "performance_weight", performance_weight, most=1)
        check_number(self.name, "n_clusterings", n_clusterings, least=1, whole=True)
        check_number(self.name, "guard", guard, most=1, optional=True)
        self._open: Mapping[str, float | None] = {
            "n_clusters": n_clusters,
            "top_k": top_k,
            "beta": beta,
            "shrinkage": shrinkage,
        }
        self._mode: Mode = mode
        self._performance_weight = performance_weight
        self._n_clusterings = n_clusterings
        self._guard = guard

    @property
    def given(self) -> Mapping[str, Any]:
        """See `Learner.given`."""
        return {
            **self._open,
            "mode": self._mode,
            "performance_weight": self._performance_weight,
            "n_clusterings": self._n_clusterings,
            "guard": self._guard,
        }

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`.

        Raises:
            ConfigError: The mode is `pro`, and of an expert no cost is known.
        """
        if self._mode == "pro":
            self._check_costs(training)
        only: dict[str, Any] = {k: (v,) for k, v in self._open.items() if v is not None}
        grid = Grid(**only)
        sizes = grid.sizes(len(training.batch))
        folds = make_folds(training, sizes)
        smoothing = choose_smoothing(training, folds, sizes, grid)
        chosen = ClusterSettings(
            *smoothing, self._mode, self._performance_weight, self._n_clusterings, self._guard
        )
        held_out = np.full(training.score.shape, np.nan, np.float32)
        for fold in folds:
            batch = training.batch.rows(fold.is_held)
            held_out[fold.is_held] = _learn(fold.rest, chosen).predict(batch)
        # Whether it is told the category makes no difference to it.
        return Lesson(_learn(training, chosen), held_out, held_out)

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> ClustersModel:
        """See `Learner.restore`."""
        return ClustersModel.restore(meta, arrays)

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""

    def _check_costs(self, training: Training) -> None:
        cost = training.cost_usd
        lacking = [
            name
            for column, name in enumerate(training.names)
            if cost is None or np.isnan(cost[:, column]).all()
        ]
        if lacking:
            raise ConfigError(
                f"router {self.name!r}: no cost of {lacking} is recorded for mode 'pro' to weigh; "
                "record costs, or choose mode 'means'"
            )


def _learn(training: Training, chosen: ClusterSettings) -> ClustersModel:
    embeddings = training.batch.embeddings
    clusterings = cluster_again(embeddings, chosen.n_clusters, chosen.n_clusterings)
    bounds = np.cumsum([0, *(len(centres) for centres, _ in clusterings)])
    parts = [_worth(training, clustering, chosen) for clustering in clusterings]
    values, means = (
        # What holds overall is the last row of each: it is kept once.
        np.concatenate([*(each[:-1] for each in of_all), of_all[0][-1:]])
        for of_all in zip(*parts, strict=True)
    )
    return ClustersModel(
        chosen,
        tuple(
            _topic(training, labels == c)
            for centres, labels in clusterings
            for c in range(len(centres))
        ),
        tuple(bounds.tolist()),
        tuple(
            _reach(distances_to(embeddings, centres), chosen.guard) for centres, _ in clusterings
        ),
        np.concatenate([centres for centres, _ in clusterings]),
        np.concatenate(
            [np.bincount(labels, minlength=len(centres)) for centres, labels in clusterings]
        ),
        values,
        means,
    )


def _worth(
    training: Training, clustering: Clustering, chosen: ClusterSettings
) -> tuple[Float64Array, Float64Array]:
    """What experts are worth in each cluster, and their means [c + 1, m]; last, overall."""
    (centres, labels), shrinkage = clustering, chosen.shrinkage
    means = shrunk_means(training.score, labels, len(centres), training.prior, shrinkage)
    costs = None
    if chosen.mode == "pro" and training.cost_usd is not None:
        overall = _known_means(training.cost_usd)
        costs = shrunk_means(training.cost_usd, labels, len(centres), overall, shrinkage)
    return cluster_values(means, costs, chosen.mode, chosen.performance_weight), means


def _reach(distances: Float64Array, guard: float | None) -> float:
    if guard is None:
        return _BOUNDLESS
    nearest = np.sort(distances.min(axis=1))
    return float(nearest[round(guard * (len(nearest) - 1))]) + TIED


def _known_means(cost_usd: Float32Array) -> Float32Array:
    n = (~np.isnan(cost_usd)).sum(axis=0)
    unknown = np.full(len(n), np.nan)
    sums = np.nansum(cost_usd, axis=0, dtype=np.float64)
    return np.divide(sums, n, out=unknown, where=n > 0).astype(np.float32)


def _topic(training: Training, of_cluster: NDArray[np.bool_]) -> str:
    counts = np.bincount(training.category_codes[of_cluster])
    return training.categories[int(counts.argmax())]
