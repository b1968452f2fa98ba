"""Pilot embeddings: where the queries lie that an expert answers best, and how many they are.

    raw_j = slope * (max_p (z . p + share_weight * log share_p) - max_c z . c) + level

over the pilots p of expert j, with z the query and c the centres of the parts that recorded queries
are in. The last two terms are the same for all experts and change nothing of their order: how near
the query is to anything recorded is no merit of an expert, and the level of the nearest part says
how well experts do there on the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from composer.types import Evidence
from routers.retrieval.wins import make_pilots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Arrays, Batch, Training

    BoolArray = NDArray[np.bool_]
    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]

Pool = Literal["max", "mean"]
_ARRAYS = ("centres", "levels", "vectors", "owners", "parts", "wins", "shares", "is_known")


@dataclass(frozen=True, slots=True)
class PilotSettings:
    """How pilots are made and compared; see `routers.pilots.PilotsLearner`."""

    pool: Pool
    k: int
    share_weight: float
    normalise: bool
    min_wins: float


@dataclass(frozen=True, eq=False)
class PilotsModel:
    """q pilots of m experts, in p parts of the recorded queries. See `routers.learning.Model`."""

    chosen: PilotSettings
    slope: float
    """What a unit of cosine is worth, in units of the score."""
    categories: tuple[str, ...]
    """Each part's category [p]; "": its queries have none."""
    centres: Float32Array
    """[p, d], the means of the parts' queries."""
    levels: Float64Array
    """How much better experts score in a part than they do on the whole [p]."""
    vectors: Float32Array
    """The pilots [q, d]."""
    owners: Int64Array
    """Each pilot's expert [q]."""
    parts: Int64Array
    """Each pilot's part [q]."""
    wins: Float64Array
    """Queries of the part that the expert won; of those that it shared, its part [q]."""
    shares: Float64Array
    """Wins by queries that the expert could have won [q]."""
    is_known: BoolArray
    """Whether anything is known of each expert [m]."""
    least_share: float
    """Of all pilots that were learned, whoever has left since: that of experts that never win."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `Model.settings`."""
        return asdict(self.chosen)

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`; a query of known category is compared with that category's pilots.

        An expert that has none there is compared with its others, and one that never wins is taken
        to have one pilot opposite to every query.
        """
        may = self._may_count(batch)
        similarity = self._similarity(batch)
        centred = _pooled(batch.embeddings @ self.centres.T, may, self.chosen.pool)
        never = -1 + self.chosen.share_weight * np.log(self.least_share) - centred
        raw = np.repeat(never[:, None], len(self.is_known), axis=1)
        for expert in np.unique(self.owners):
            own = self.owners == expert
            pooled = _pooled(similarity[:, own], may[:, self.parts[own]], self.chosen.pool)
            raw[:, expert] = pooled - centred
        raw = self.slope * raw + self.levels[self._nearest_parts(batch)][:, None]
        return np.where(self.is_known, raw, np.nan).astype(np.float32)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`; of several pilots the nearest."""
        if not self.is_known[column]:
            return Evidence("no outcome of it is known")
        one = batch.rows(np.array([row]))
        own = np.flatnonzero(self.owners == column)
        if not len(own):
            return Evidence("it was the best on none of the recorded queries")
        may = _or_all(self._may_count(one)[:, self.parts[own]])[0]
        best = int(own[np.where(may, self._similarity(one)[0, own], -np.inf).argmax()])
        category = self.categories[int(self.parts[best])]
        cosine = float(one.embeddings[0] @ self.vectors[best])
        wins, share = float(self.wins[best]), float(self.shares[best])
        there = f" in {category!r}" if category else ""
        details: dict[str, Any] = {
            "category": category,
            "similarity": cosine,
            "wins": wins,
            "share": share,
        }
        if self.chosen.pool == "max":
            parts = {
                "similarity": self.slope * cosine,
                "share of wins": self.slope * float(self._bias[best]),
            }
            raw = float(self.predict(one)[0, column])
            details["parts"] = {**parts, "the same for all": raw - sum(parts.values())}
        return Evidence(
            f"similarity {cosine:.2f} to the {wins:.3g} recorded queries{there} on which it was "
            f"the best, {share:.0%} of those",
            details,
        )

    def without(self, column: int) -> PilotsModel:
        """See `Model.without`: the expert's own pilots are dropped, no other is touched."""
        kept = self.owners != column
        return replace(
            self._of_pilots(kept),
            owners=self.owners[kept] - (self.owners[kept] > column),
            is_known=np.delete(self.is_known, column),
        )

    def with_expert(self, training: Training, column: int) -> PilotsModel:
        """The model with one more expert; the others' pilots stay as they are.

        The new expert's pilots are of the queries on which none is better. To learn anew would also
        take from the others what they now lose to it.

        Args:
            training: Outcomes of the model's experts, in its order, and of the new one.
            column: The new one's in `training`, and in the model that comes out.
        """
        codes = self._nearest_parts(training.batch)
        made = replace(
            self,
            **make_pilots(
                training, codes, normalise=self.chosen.normalise, min_wins=self.chosen.min_wins
            ),
        )
        new = made._of_pilots(made.owners == column)
        owners = self.owners + (self.owners >= column)
        return replace(
            self,
            owners=np.concatenate([owners, new.owners]),
            is_known=np.insert(self.is_known, column, made.is_known[column]),
            **{
                name: np.concatenate([getattr(self, name), getattr(new, name)])
                for name in ("vectors", "parts", "wins", "shares")
            },
        )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {
            "settings": asdict(self.chosen),
            "slope": self.slope,
            "categories": list(self.categories),
            "least_share": self.least_share,
        }
        return meta, {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def restore(cls, meta: Mapping[str, Any], arrays: Arrays) -> Self:
        """The model of which `state` gave this.

        Raises:
            KeyError: Something is missing.
        """
        chosen = PilotSettings(**meta["settings"])
        own = {name: arrays[name] for name in _ARRAYS}
        categories, least = tuple(meta["categories"]), meta["least_share"]
        return cls(chosen, meta["slope"], categories, least_share=least, **own)

    @property
    def _bias(self) -> Float64Array:
        """What is added to the similarity with each pilot [q]."""
        return self.chosen.share_weight * np.log(self.shares)

    def _similarity(self, batch: Batch) -> Float64Array:
        """Of n queries with the pilots [n, q], the bias included."""
        return batch.embeddings @ self.vectors.T + self._bias

    def _may_count(self, batch: Batch) -> BoolArray:
        """Which parts count for each query [n, p]: its category's, all where that has none."""
        categories = np.array([category or "" for category in batch.categories])
        return _or_all(categories[:, None] == np.array(self.categories))

    def _nearest_parts(self, batch: Batch) -> Int64Array:
        """The nearest to each query of the parts that count [n]."""
        cosine = batch.embeddings @ self.centres.T
        return np.where(self._may_count(batch), cosine, -np.inf).argmax(axis=1)

    def _of_pilots(self, kept: BoolArray) -> PilotsModel:
        own = {name: getattr(self, name)[kept] for name in ("vectors", "owners", "parts")}
        return replace(self, **own, wins=self.wins[kept], shares=self.shares[kept])


def _pooled(similarity: Any, may: BoolArray, pool: Pool) -> Float64Array:
    """One similarity a query [n], of those [n, x] that count, or of all where none does."""
    may = _or_all(may)
    if pool == "max":
        return np.max(similarity, axis=1, where=may, initial=-np.inf)
    return np.mean(similarity, axis=1, where=may)


def _or_all(may: BoolArray) -> BoolArray:
    return may | ~may.any(axis=1, keepdims=True)
