"""Settings of the category router that are left open: those of least error on held-out folds.

Each fold is held out from one classifier and one tally, whatever is chosen; so the choices cost no
more fits, and a held-out row has seen the settings' choice but no model that learned from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.advantage import advantage_errors
from routers.category.classifier import (
    ClassifierKind,
    choose_temperature,
    fit_classifier,
    softmax,
)
from routers.category.means import Tally, shrunk_means, tally
from routers.category.reading import (
    NOT_KNOWN,
    Assignment,
    Reading,
    Uncertainty,
    centres_of,
    closeness_to,
    make_reading,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.category.labels import Labels
    from routers.learning import Training

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

SHRINKAGES = (10.0, 1.0, 2.0, 5.0, 20.0, 40.0, 80.0, 160.0)
"""Tried; the first holds where nothing can be held out."""
UNCERTAIN = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the queries that the thresholds tried make uncertain."""
SURE = 2.0
"""Standard errors by which a threshold must do better than none, as several are tried."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the router does with what its classifier says."""

    temperature: float
    shrinkage: float
    threshold: float


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is made of each of n rows without the rows of its fold."""

    training: Training
    logits: Float64Array
    """[n, s]."""
    closeness: Float64Array
    """[n]."""
    codes: Int64Array
    """Each row's category [n]; `NOT_KNOWN`: it has none, or its fold is not held out."""
    known: Int64Array
    """What a model can be told of it [n]: nothing where the other folds lack it, or of clusters."""
    tallies: Mapping[int, Tally]
    """Of the rows outside each fold."""

    def temperature(self) -> float:
        """Of the classifier's probabilities."""
        rows = self.codes != NOT_KNOWN
        return choose_temperature(self.logits[rows], self.codes[rows])

    def reading(
        self, temperature: float, uncertainty: Uncertainty, threshold: float, *, told: bool
    ) -> Reading:
        """What the rows are about, whether or not their categories are told."""
        known = self.known if told else np.full_like(self.known, NOT_KNOWN)
        p = softmax(self.logits, temperature)
        return make_reading(p, self.closeness, known, uncertainty, threshold)

    def raw(self, reading: Reading, assign: Assignment, shrinkage: float) -> Float32Array:
        """Raw scores [n, m]; NaN: the other folds tell nothing of the expert."""
        raw = np.full(self.training.score.shape, np.nan, np.float32)
        for fold, tallied in self.tallies.items():
            rows = self.training.folds == fold
            of_fold = Reading(reading.p[rows], reading.confidence[rows], reading.is_certain[rows])
            raw[rows] = of_fold.raw(assign, shrunk_means(tallied, shrinkage), tallied.overall)
        return raw

    def losses(self, raw: Float32Array) -> Float64Array:
        """Squared errors of the predicted advantage [n], weighted so that categories are equal."""
        errors = advantage_errors(raw, self.training.score)
        return np.where(np.isnan(errors), 0, self.training.weights * errors)


def hold_out(training: Training, labels: Labels, kind: ClassifierKind) -> HeldOut:
    """Learn without each fold in turn; a fold that is all there is stays unread.

    Args:
        training: n rows.
        labels: Their categories, s of them.
        kind: Which classifier.
    """
    n, s = len(training.batch), len(labels.names)
    logits, closeness = np.zeros((n, s)), np.zeros(n)
    codes, known = np.full(n, NOT_KNOWN), np.full(n, NOT_KNOWN)
    tallies: dict[int, Tally] = {}
    for fold in np.unique(training.folds):
        held = training.folds == fold
        if held.all():
            break
        rows = ~held & (labels.codes != NOT_KNOWN)
        embeddings, of_rows = training.batch.embeddings[rows], labels.codes[rows]
        classifier = fit_classifier(kind, embeddings, of_rows, s)
        logits[held] = classifier.logits(training.batch.embeddings[held])
        centres = centres_of(embeddings, of_rows, s)
        closeness[held] = closeness_to(centres, training.batch.embeddings[held])
        tallies[int(fold)] = tallied = tally(training.rows(~held), labels.codes[~held], s)
        codes[held] = labels.codes[held]
        is_told = held & (labels.codes != NOT_KNOWN) & (tallied.rows[labels.codes] > 0)
        known[is_told] = labels.codes[is_told]
    if labels.kind == "clusters":
        known[:] = NOT_KNOWN
    return HeldOut(training, logits, closeness, codes, known, tallies)


def choose(
    held: HeldOut,
    *,
    assign: Assignment,
    uncertainty: Uncertainty,
    temperature: float | None = None,
    shrinkage: float | None = None,
    threshold: float | None = None,
) -> Chosen:
    """What is left open, by least error; of equal ones the first.

    First the temperature, by the log loss of the categories; then the shrinkage, by the error of
    the rows as read and as told together; then the threshold, by that of the rows as read. It is 0,
    everyone is certain, unless another is surely better.

    Args:
        held: Without a fold that could be held out, nothing errs, and the first are taken.
        assign: How categories count.
        uncertainty: What the confidence is measured by.
        temperature: None: left open, as are the next two.
        shrinkage: Of the means.
        threshold: Of the confidence.
    """
    of_logits = held.temperature() if temperature is None else temperature

    def read(limit: float, *, told: bool = False) -> Reading:
        return held.reading(of_logits, uncertainty, limit, told=told)

    def of_shrinkage(value: float) -> float:
        readings = (read(threshold or 0.0, told=told) for told in (False, True))
        losses = sum(held.losses(held.raw(reading, assign, value)).mean() for reading in readings)
        # What the order of the experts does to the last digits must not choose.
        return round(float(losses), 12)

    settled = min(SHRINKAGES, key=of_shrinkage) if shrinkage is None else shrinkage
    certain = read(0.0)
    losses = held.losses(held.raw(certain, assign, settled))

    def gain(limit: float) -> float:
        gains = losses - held.losses(held.raw(read(limit), assign, settled))
        mean, error = float(gains.mean()), float(gains.std()) / len(gains) ** 0.5
        return round(mean, 12) if mean > SURE * error else 0.0

    limits = (0.0, *map(float, np.quantile(certain.confidence, UNCERTAIN)))
    return Chosen(of_logits, settled, max(limits, key=gain) if threshold is None else threshold)
