"""Routes to the expert whose pilot embeddings lie nearest: means of recorded queries that it won.

Recorded queries are grouped by category and by the expert that did best on them. The mean embedding
of a group is a pilot of that expert, and the nearer an expert's nearest pilot, the better it is for
a query. Each expert has pilots of its own: see `PilotsModel.with_expert` and `without`.

Source: RouterRetriever, arXiv 2409.02685; code github.com/amy-hyunji/RouterRetriever at 0169bd4
(get_pilot_embeddings.py, test.py).

Deviations:
- There nearness alone decides, though the pilots of all experts in a category lie close together:
  one who won three of its queries is as near as one who won the rest. Here `share_weight` times the
  logarithm of the share of the category's queries that the expert won is added, as in a classifier
  of (category, winner); 0 is the source.
- There a query goes to the first of the experts that tie. Here each of them gets an equal part of
  it, and nobody gets one on which all score the same.
- There pilots are compared by inner product and are as long as they come, which favours tight
  groups. Here they have unit norm; `normalise: false` leaves them.
- There k-means may part the queries of one winner. Here it parts each category's queries, whoever
  won them, in k: so shares compare, and an expert that joins moves nobody's pilots.
- There any win makes a pilot. Here it takes `min_wins`, or that it is the expert's largest group.
- There only the order counts. Here a slope and a level a part bring raw scores to the scale of the
  recorded ones, see `routers.retrieval.model`, which leaves the order as it is.
- There categories are not known of new queries. Here only its pilots count where one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from composer.errors import ConfigError
from routers.kmeans import cluster
from routers.learning import Lesson
from routers.retrieval.model import PilotSettings, PilotsModel, Pool
from routers.retrieval.wins import make_pilots, unit
from routers.settings import check_choice, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.learning import Arrays, Batch, Training

    BoolArray = NDArray[np.bool_]
    Float64Array = NDArray[np.float64]

SHARE_WEIGHTS = (0.2, 0.1, 0.4, 0.05)
"""Of equally good ones the first is taken."""
PARTS = 16
"""Parts where there are no categories to group queries by."""
LEAST_MEMBERS = 20
"""Queries a part, on the average."""
_LEAST_SLOPE = 1e-3
"""Above 0, so that the order of the experts is kept where nothing can be told."""


class PilotsLearner:
    """Learns pilots. See `routers.learning.Learner`.

    Args:
        pool: How the similarities with an expert's pilots become one.
        k: Parts of a category, fewer where it has few queries; None: 1, or 16 where all recorded
            queries are of one category.
        share_weight: Of the logarithm of an expert's share of the wins, in cosines; None: that of
            the best choices on held-out queries.
        normalise: Scale pilots to unit norm.
        min_wins: What makes a pilot, in queries.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "retrieval"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        *,
        pool: Pool = "max",
        k: int | None = None,
        share_weight: float | None = None,
        normalise: bool = True,
        min_wins: float = 1.0,
    ) -> None:
        check_choice(self.name, "pool", pool, get_args(Pool))
        check_number(self.name, "k", k, least=1, whole=True, optional=True)
        check_number(self.name, "share_weight", share_weight, optional=True)
        check_number(self.name, "min_wins", min_wins)
        if type(normalise) is not bool:
            raise ConfigError(
                f"router {self.name!r}: 'normalise' is {normalise!r}; give true or false"
            )
        self._pool: Pool = pool
        self._k = k
        self._share_weight = share_weight
        self._normalise = normalise
        self._min_wins = min_wins

    @property
    def given(self) -> Mapping[str, Any]:
        """See `Learner.given`."""
        return {
            "pool": self._pool,
            "k": self._k,
            "share_weight": self._share_weight,
            "normalise": self._normalise,
            "min_wins": self._min_wins,
        }

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`."""
        k = self._k or (1 if len(training.categories) > 1 else PARTS)
        weights = SHARE_WEIGHTS if self._share_weight is None else (self._share_weight,)
        trials = [
            PilotSettings(self._pool, k, weight, self._normalise, self._min_wins)
            for weight in weights
        ]
        folds = [training.folds == fold for fold in np.unique(training.folds)]
        held = folds if len(folds) > 1 else []
        models = [_learn(training.rows(~is_held), trials[0]) for is_held in held]

        def held_out(batch: Batch, chosen: PilotSettings, slope: float) -> Float32Array:
            raw = np.full(training.score.shape, np.nan, np.float32)
            for is_held, model in zip(held, models, strict=True):
                of_fold = replace(model, chosen=chosen, slope=slope)
                raw[is_held] = of_fold.predict(batch.rows(is_held))
            return raw

        untold = training.batch.without_categories()
        raw = [held_out(untold, trial, 1.0) for trial in trials]
        best = int(np.argmax([_accuracy(each, training) for each in raw]))
        chosen, slope = trials[best], _slope(raw[best], training)
        return Lesson(
            replace(_learn(training, chosen), slope=slope),
            held_out(untold, chosen, slope),
            held_out(training.batch, chosen, slope),
            # Cosines alone say nothing of how good an expert is on the whole.
            own_offsets=chosen.share_weight == 0,
        )

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> PilotsModel:
        """See `Learner.restore`."""
        return PilotsModel.restore(meta, arrays)

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""


def _learn(training: Training, chosen: PilotSettings) -> PilotsModel:
    """The model with a slope of 1."""
    embeddings, score = training.batch.embeddings, training.score - training.prior
    codes = np.empty(len(embeddings), np.int64)
    categories: list[str] = []
    for code, category in enumerate(training.categories):
        rows = np.flatnonzero(training.category_codes == code)
        k = max(1, min(chosen.k, len(rows) // LEAST_MEMBERS))
        labels = cluster(embeddings[rows], [k])[k].labels if k > 1 else np.zeros(len(rows), int)
        codes[rows] = len(categories) + labels
        categories += [category] * (int(labels.max()) + 1)
    of_part = [codes == part for part in range(len(categories))]
    centres = np.stack([embeddings[rows].mean(axis=0) for rows in of_part])
    return PilotsModel(
        chosen,
        1.0,
        tuple(categories),
        unit(centres) if chosen.normalise else centres,
        np.array([np.nanmean(score[rows]) for rows in of_part], np.float64),
        **make_pilots(training, codes, normalise=chosen.normalise, min_wins=chosen.min_wins),
    )


def _accuracy(raw: Float32Array, training: Training) -> float:
    """The mean score of the first choice [n], categories weighing equally; 0: it cannot be told."""
    best = np.where(np.isnan(raw), -np.inf, raw).argmax(axis=1)
    score = training.score[np.arange(len(best)), best]
    weights = training.weights * ~np.isnan(score)
    return float(np.nansum(weights * score) / weights.sum()) if weights.any() else 0.0


def _slope(raw: Float32Array, training: Training) -> float:
    """By what raw advantages are to be multiplied to be nearest to the recorded ones.

    An expert's advantage is its score over the mean of those known of the query.
    """
    known = ~(np.isnan(training.score) | np.isnan(raw))
    x, y = (_advantages(values, known) for values in (raw, training.score))
    weights = training.weights[:, None]
    square = float((weights * x * x).sum())
    return max(_LEAST_SLOPE, float((weights * x * y).sum()) / square) if square else 1.0


def _advantages(values: Float32Array, known: BoolArray) -> Float64Array:
    filled = np.where(known, values, 0).astype(np.float64)
    means = filled.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, filled - means, 0)
