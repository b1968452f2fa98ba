"""The seam of routers that learn from outcomes: what an algorithm is given, and what it gives.

    OutcomeTable -> Training -> Learner.fit -> Lesson(Model, held-out predictions)
    queries      -> Batch    -> Model.predict -> raw scores -> calibration -> Scores

`routers.fitted.OutcomeRouter` is the shell around every algorithm: it embeds, calibrates, explains,
saves and loads. An algorithm only learns raw scores from arrays; it embeds nothing itself but
texts of its own (skills, descriptions), and calibrates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from composer.types import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.outcomes import OutcomeTable, RecordedExpert
    from composer.protocols import Flow, RouterNeed
    from composer.types import Annotation, Float32Array, Query

    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]
    Arrays = Mapping[str, NDArray[Any]]

N_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Batch:
    """What an algorithm sees of n queries."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    embeddings: Float32Array
    """[n, d], unit norm: by meaning and by words, see `routers.features`."""
    semantic: Float32Array
    """[n, s], unit norm: by the encoder alone."""
    categories: tuple[str | None, ...]
    """None: not known."""
    annotations: tuple[Annotation | None, ...]
    """None: nobody annotated it."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, wanted: NDArray[np.bool_] | Int64Array) -> Batch:
        """Some of the queries: a mask [n], or numbers in the order wanted."""
        index: list[int] = np.arange(len(self), dtype=np.int64)[wanted].tolist()
        return Batch(
            tuple(self.ids[i] for i in index),
            tuple(self.texts[i] for i in index),
            self.embeddings[index],
            self.semantic[index],
            tuple(self.categories[i] for i in index),
            tuple(self.annotations[i] for i in index),
        )

    def without_categories(self) -> Batch:
        """The same queries, no category known."""
        return replace(self, categories=(None,) * len(self))


@dataclass(frozen=True, eq=False)
class Training:
    """Recorded outcomes of m experts on n queries, sorted by the queries' ids.

    Something is known of every query and of every expert, and there are at least two queries.
    """

    batch: Batch
    """With the recorded categories."""
    experts: tuple[RecordedExpert, ...]
    score: Float32Array
    """[n, m] in [0, 1]; NaN: unknown, which is not wrong."""
    folds: Int64Array
    """[n], for cross-validation; a query stays in its fold whatever other rows there are."""
    cost_usd: Float32Array | None = None
    """[n, m]; NaN: unknown."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The experts' names: the columns."""
        return tuple(expert.name for expert in self.experts)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories that have rows, sorted; "" is that of rows without one."""
        return tuple(sorted({category or "" for category in self.batch.categories}))

    @cached_property
    def category_codes(self) -> Int64Array:
        """Each row's category [n], as an index of `categories`."""
        number = {name: code for code, name in enumerate(self.categories)}
        return np.array([number[name or ""] for name in self.batch.categories], np.int64)

    @cached_property
    def weights(self) -> Float64Array:
        """Each row's weight [n], so that all categories weigh equally; their mean is 1."""
        counts = np.bincount(self.category_codes)
        return len(self.batch) / (len(counts) * counts[self.category_codes])

    @cached_property
    def prior(self) -> Float32Array:
        """Each expert's mean score [m], the categories where it is known weighing equally."""
        known = ~np.isnan(self.score)
        means: list[Float64Array] = []
        for code in range(len(self.categories)):
            rows = self.category_codes == code
            n = known[rows].sum(axis=0)
            sums = np.nansum(self.score[rows], axis=0, dtype=np.float64)
            means.append(np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0))
        table = np.stack(means)
        n = (~np.isnan(table)).sum(axis=0)
        sums = np.nansum(table, axis=0)
        return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0).astype(np.float32)

    def rows(self, wanted: NDArray[np.bool_] | Int64Array) -> Training:
        """The training on some of the queries; of some experts nothing may be known then."""
        cost = None if self.cost_usd is None else self.cost_usd[wanted]
        return replace(
            self,
            batch=self.batch.rows(wanted),
            score=self.score[wanted],
            folds=self.folds[wanted],
            cost_usd=cost,
        )


class Model(Protocol):
    """What an algorithm has learned. Frozen; safe to share between threads."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings in use, JSON values; those that `fit` chose included."""
        ...

    def predict(self, batch: Batch) -> Float32Array:
        """Raw scores [n, m], finite, the higher the better; NaN: unknown.

        Of any scale, but of one scale for all experts: they are calibrated by one logistic curve,
        with an offset an expert if the lesson asks for it. A query's scores do not depend on its
        batch.
        """
        ...

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """Why an expert scores as it does: one line, and JSON values.

        Where the raw score is a sum, `details["parts"]` names its terms: {what: amount}.
        """
        ...

    def without(self, column: int) -> Model:
        """The model without an expert; the others' raw scores stay as they are.

        Where they are shares of one whole, their differences stay.
        """
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """All that it is: JSON values, and arrays of numbers; for `Learner.restore`."""
        ...


@dataclass(frozen=True, eq=False)
class Lesson:
    """What `Learner.fit` gives."""

    model: Model
    """Learned from all rows."""
    held_out: Float32Array
    """Raw scores [n, m] of each training row by a model that did not learn from its fold, and
    was not told its category."""
    held_out_known: Float32Array
    """The same where it was told."""
    own_offsets: bool = False
    """Whether calibration is to give each expert an offset: raw scores do not compare experts, as
    cosines do not. False: they do, and calibration leaves their order as it is."""


class Learner(Protocol):
    """An algorithm and its settings."""

    name: str
    needs: frozenset[RouterNeed]

    @property
    def given(self) -> Mapping[str, Any]:
        """The settings as they were given, JSON values: what its factory takes."""
        ...

    def fit(self, training: Training) -> Lesson:
        """Learn. Deterministic; the order of the experts does not matter.

        Raises:
            ConfigError: The training cannot teach it.
        """
        ...

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> Model:
        """The model of which `Model.state` gave this.

        Raises:
            KeyError, ValueError: It is no such state.
        """
        ...

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        """A flow that asks experts what the algorithm has to know of a query; None: nothing."""
        ...


def make_training(
    table: OutcomeTable, embeddings: Float32Array, semantic: Float32Array, *, salt: str = "router"
) -> Training:
    """What a table teaches, once its prompts are embedded; rows and embeddings in its order.

    Args:
        table: Every row and column of which something is known.
        embeddings: [n, d].
        semantic: [n, s].
        salt: Of the folds.
    """
    # By their ids: the order of the rows must not matter.
    order = np.array(sorted(range(len(table.queries)), key=lambda r: table.queries[r].id), np.int64)
    table = table.rows(order)
    batch = Batch(
        tuple(query.id for query in table.queries),
        tuple(query.prompt for query in table.queries),
        embeddings[order],
        semantic[order],
        tuple(query.category for query in table.queries),
        tuple(query.annotation for query in table.queries),
    )
    folds = table.folds(N_FOLDS, salt=salt)
    return Training(batch, table.experts, table.score, folds, table.cost_usd)


def is_told(batch: Batch, recorded: Collection[str]) -> NDArray[np.bool_]:
    """Whether each query [n] comes with a category of which outcomes are recorded."""
    return np.array([bool(name) and name in recorded for name in batch.categories], np.bool_)


def cross_fit(
    fit: Callable[[Training], Model], training: Training
) -> tuple[Float32Array, Float32Array]:
    """Held-out predictions for `Lesson`: category hidden, and known.

    Args:
        fit: Learns a model; called once a fold, with the rows of the others.
        training: All rows.
    """
    hidden = np.full(training.score.shape, np.nan, np.float32)
    known = hidden.copy()
    for fold in np.unique(training.folds):
        is_held = training.folds == fold
        if is_held.all():
            break
        model = fit(training.rows(~is_held))
        batch = training.batch.rows(is_held)
        hidden[is_held] = model.predict(batch.without_categories())
        known[is_held] = model.predict(batch)
    return hidden, known
