"""A calibrated combination of other routers: what they predict, weighted by what they are worth.

    raw_ij = logit(level_i + sum_k weight_k * advantage_kij)

over the members k, whose raw scores are calibrated first. A member's advantage for an expert is
what it predicts of it minus its mean over the experts; the level is the mean of those means. The
weights are those, none negative, whose combination comes nearest to the recorded advantages on
held-out rows. The advantage decides whom to choose; how hard a query is, the level, does not.

Sources: stacked generalisation, Wolpert 1992, with the non-negative weights of Breiman 1996,
"Stacked regressions", by scipy's solver of non-negative least squares.

Deviations:
- Advantages are fitted, not the predictions themselves.
- Categories weigh equally, so that a large one does not decide for the small ones.
- The members' held-out predictions are made once and shared: by their calibrations, by the weights,
  and by the held-out scores of the combination, whose weights come from the other folds.
- Where the category is known, members are calibrated and weighted for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.types import Evidence
from routers.calibration import Calibration, calibrate
from routers.learning import Batch, Learner, Lesson, Model, Training, is_told
from routers.stacked.weights import combine, fill, nonnegative_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.learning import Arrays

    Float64Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Blend:
    """How members are calibrated and weighted, where the category is known or where it is not."""

    calibrations: tuple[Calibration, ...]
    weights: Float64Array
    """[K], none negative."""

    def qualities(self, raw: Sequence[Float32Array]) -> Float64Array:
        """What each member predicts, [K, n, m]; where one knows nothing, the others' mean."""
        each = [c.quality(r) for c, r in zip(self.calibrations, raw, strict=True)]
        return fill(np.stack(each).astype(np.float64))

    def combine(self, raw: Sequence[Float32Array]) -> Float32Array:
        """The members' combination [n, m]; NaN where none knows anything."""
        return combine(self.qualities(raw), self.weights)


@dataclass(frozen=True, eq=False)
class StackedModel:
    """K members, and how they are weighted."""

    members: Mapping[str, Model]
    hidden: Blend
    known: Blend
    categories: tuple[str, ...]
    """Those of which outcomes are recorded."""
    columns: tuple[int, ...]
    """Which of the members' experts are scored: the level is of all that there were."""

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        return {"members": list(self.members)}

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        raw = [model.predict(batch) for model in self.members.values()]
        told = is_told(batch, self.categories)
        combined = np.where(told[:, None], self.known.combine(raw), self.hidden.combine(raw))
        return combined[:, self.columns]

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`: what each member predicts, and why the weightiest one does."""
        one = batch.rows(np.array([row], np.int64))
        column = self.columns[column]
        blend = self.known if is_told(one, self.categories)[0] else self.hidden
        qualities = blend.qualities([model.predict(one) for model in self.members.values()])
        names = list(self.members)
        says = {name: float(q[0, column]) for name, q in zip(names, qualities, strict=True)}
        weights = dict(zip(names, map(float, blend.weights), strict=True))
        first = names[int(blend.weights.argmax())]
        of_first = self.members[first].why(one, 0, column)
        shown = ", ".join(f"{name} {says[name]:.2f}" for name in names if weights[name] > 0)
        return Evidence(
            f"{shown}; {first}: {of_first.reason}",
            {
                "members": {
                    name: {"quality": round(says[name], 4), "weight": round(weights[name], 4)}
                    for name in names
                },
                first: dict(of_first.details),
            },
        )

    def without(self, column: int) -> StackedModel:
        """See `Model.without`."""
        return replace(self, columns=tuple(np.delete(self.columns, column).tolist()))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        states = {name: model.state() for name, model in self.members.items()}
        blends = {"hidden": self.hidden, "known": self.known}
        meta = {
            "members": {name: meta for name, (meta, _) in states.items()},
            "categories": self.categories,
            "columns": self.columns,
            "scales": {key: [c.scale for c in blend.calibrations] for key, blend in blends.items()},
        }
        arrays = {
            f"{name}/{key}": array
            for name, (_, arrays) in states.items()
            for key, array in arrays.items()
        }
        for key, blend in blends.items():
            arrays[f"{key} weights"] = blend.weights
            arrays[f"{key} offsets"] = np.stack([c.offsets for c in blend.calibrations])
        return meta, arrays


class StackedLearner:
    """Learns what other routers are worth together.

    Args:
        members: What is combined, by name, at least one; each learns by itself.
    """

    name = "stacked"

    def __init__(self, *, members: Mapping[str, Learner]) -> None:
        self._members = dict(members)
        self.needs: frozenset[RouterNeed] = frozenset(
            need for member in members.values() for need in member.needs
        )

    @property
    def given(self) -> dict[str, Any]:
        """See `Learner.given`."""
        return {"members": list(self._members)}

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`."""
        lessons = {name: member.fit(training) for name, member in self._members.items()}
        hidden, held_out = self._blend(training, list(lessons.values()), known=False)
        known, held_out_known = self._blend(training, list(lessons.values()), known=True)
        models = {name: lesson.model for name, lesson in lessons.items()}
        model = StackedModel(
            models, hidden, known, training.categories, tuple(range(len(training.names)))
        )
        return Lesson(model, held_out, held_out_known)

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> StackedModel:
        """See `Learner.restore`."""
        members: dict[str, Model] = {}
        for name, member in self._members.items():
            start = f"{name}/"
            own = {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
            members[name] = member.restore(meta["members"][name], own)
        hidden, known = (
            Blend(
                tuple(
                    Calibration(scale, offsets)
                    for scale, offsets in zip(
                        meta["scales"][key], arrays[f"{key} offsets"], strict=True
                    )
                ),
                arrays[f"{key} weights"],
            )
            for key in ("hidden", "known")
        )
        return StackedModel(
            members, hidden, known, tuple(meta["categories"]), tuple(meta["columns"])
        )

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: its members need the query's text alone."""

    def _blend(
        self, training: Training, lessons: Sequence[Lesson], *, known: bool
    ) -> tuple[Blend, Float32Array]:
        """How to weigh the members, and the combination's own held-out scores."""
        raw = [lesson.held_out_known if known else lesson.held_out for lesson in lessons]
        calibrations = tuple(
            calibrate(each, training.score, own_offsets=lesson.own_offsets)
            for each, lesson in zip(raw, lessons, strict=True)
        )
        equal = np.full(len(lessons), 1 / len(lessons))
        qualities = Blend(calibrations, equal).qualities(raw)
        # Rows that no fold held out, as where all are in one, teach nothing of the weights.
        usable = np.asarray((~np.isnan(qualities)).all(axis=(0, 2)))
        held_out = np.full(training.score.shape, np.nan, np.float32)
        for fold in np.unique(training.folds):
            is_held = training.folds == fold
            weights = _weights(training, qualities, usable & ~is_held)
            held_out[is_held] = combine(qualities[:, is_held], weights)
        return Blend(calibrations, _weights(training, qualities, usable)), held_out


def _weights(training: Training, qualities: Float64Array, rows: NDArray[np.bool_]) -> Float64Array:
    return nonnegative_weights(qualities[:, rows], training.score[rows], training.weights[rows])
