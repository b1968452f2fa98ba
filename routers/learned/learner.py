"""Learns experts' scores as a function of a query's embedding: one small head for all experts.

    embedding -- head --> raw scores -- curve --> logits (-- category, where it is known --> logits)

The head is one of `routers.learned_heads.HEADS`: by default a logistic regression of all experts at
once. What a head leaves open (penalties, epochs) is what errs least on held-out folds, and the raw
scores of those very folds are the lesson's; so a fit is one for each fold and one for all rows. The
choice of a setting or two has seen the held-out scores, which the weights have not.

Rows weigh alike, whatever their category: with least squares on four recorded tables, weighing
categories alike made the held-out log-loss no better and mostly worse, and the accuracy as the mean
over categories now a little better, now a little worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from composer.errors import ConfigError
from composer.suggest import suggest
from routers.calibration import calibrate
from routers.learned.categories import category_numbers, category_offsets
from routers.learned.heads import HEADS, Examples
from routers.learned.model import LearnedModel, read_model
from routers.learning import Lesson, Training
from routers.settings import check_choice, check_number

if TYPE_CHECKING:
    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.learning import Arrays, Int64Array

_LEAST_L2 = 1e-3


class LearnedLearner:
    """Learns a small head on query embeddings.

    Args:
        head: Which, see `routers.learned.heads`.
        shared_l2: Penalty on what experts share, of head `logistic`; None: chosen by held-out
            error, as are the others but for `width`.
        own_l2: Penalty on what an expert has of its own, of head `logistic`.
        width: Of the inner layer, of every other head; None: the head's default.
        epochs: Passes over the rows, of every head but `logistic`.
        balance: Weight of equal loads, of head `selection`.

    Raises:
        ConfigError: A setting is none of its choices, out of its range, or of another head.
    """

    name = "learned"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        *,
        head: str = "logistic",
        shared_l2: float | None = None,
        own_l2: float | None = None,
        width: int | None = None,
        epochs: int | None = None,
        balance: float | None = None,
    ) -> None:
        check_choice(self.name, "head", head, HEADS)
        check_number(self.name, "shared_l2", shared_l2, least=_LEAST_L2, optional=True)
        check_number(self.name, "own_l2", own_l2, least=_LEAST_L2, optional=True)
        check_number(self.name, "width", width, least=1, whole=True, optional=True)
        check_number(self.name, "epochs", epochs, least=1, whole=True, optional=True)
        check_number(self.name, "balance", balance, optional=True)
        self._head = HEADS[head]
        settings = {
            "shared_l2": shared_l2,
            "own_l2": own_l2,
            "width": width,
            "epochs": epochs,
            "balance": balance,
        }
        for setting, value in settings.items():
            if value is not None and setting not in self._head.defaults:
                raise ConfigError(
                    f"router {self.name!r}: head {head!r} has no setting {setting!r}; "
                    f"{suggest(setting, self._head.defaults)}"
                )
        self._name_of_head = head
        self._settings = {
            key: default if settings[key] is None else settings[key]
            for key, default in self._head.defaults.items()
        }

    @property
    def given(self) -> dict[str, Any]:
        """The head and its settings; None: not given, and chosen by `fit`."""
        return {"head": self._name_of_head, **self._settings}

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`."""
        # BLAS waits by spinning, which starves whatever runs beside it.
        with threadpool_limits(1):
            return self._fit(training)

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> LearnedModel:
        """See `Learner.restore`."""
        return read_model(meta, arrays, self._head.activation)

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""

    def _fit(self, training: Training) -> Lesson:
        # By their names: where weights start at random, the experts' order must not matter.
        by_name = np.array(sorted(range(len(training.names)), key=training.names.__getitem__))
        score = training.score[:, by_name]
        examples = Examples(training.batch.embeddings, score, training.category_codes)
        settings = self._choose(examples, training.folds)
        # Anew: one that starts where another ended is not quite what the settings alone make.
        (held_out,) = self._hold_out(examples, training.folds, [settings])
        (network,) = self._head.train(examples, [settings])
        curve = calibrate(held_out, score, own_offsets=self._head.own_offsets)
        # Where nothing is held out, or all of it is useless, there is no curve.
        scale, level = (curve.scale, curve.offsets) if curve.scale > 0 else (1.0, 0 * curve.offsets)
        network = network.calibrated(scale, level)
        held_out = (held_out * scale + level).astype(np.float32)
        # "" is that of rows without a category.
        names = tuple(name for name in training.categories if name)
        codes = category_numbers(training.batch.categories, names)
        held_out_known = held_out.copy()
        for fold in np.unique(training.folds):
            is_held = training.folds == fold
            others = np.where(is_held[:, None], np.nan, score)
            offsets = category_offsets(held_out, others, codes, len(names))
            is_told = is_held & (codes < len(names))
            held_out_known[is_told] += offsets[codes[is_told]]
        offsets = category_offsets(held_out, score, codes, len(names))
        given = {"head": self._name_of_head, **settings}
        model = LearnedModel(given, network, scale, names, offsets)
        as_given = np.argsort(by_name)
        return Lesson(model.columns(as_given), held_out[:, as_given], held_out_known[:, as_given])

    def _choose(self, examples: Examples, folds: Int64Array) -> Mapping[str, Any]:
        """The settings that err least on held-out rows."""
        candidates = self._head.candidates(self._settings)
        if len(candidates) == 1:
            return candidates[0]
        each = self._hold_out(examples, folds, candidates)
        errors = [self._head.error(raw, examples.score) for raw in each]
        return candidates[int(np.argmin(errors))]

    def _hold_out(
        self, examples: Examples, folds: Int64Array, candidates: Sequence[Mapping[str, Any]]
    ) -> list[Float32Array]:
        """Raw scores of each row by a network of the other folds, for each of the candidates."""
        held_out = [np.full(examples.score.shape, np.nan, np.float32) for _ in candidates]
        for fold in np.unique(folds):
            is_held = folds == fold
            if is_held.all():
                break
            networks = self._head.train(examples.rows(~is_held), candidates)
            for raw, network in zip(held_out, networks, strict=True):
                raw[is_held] = network.raw(examples.embeddings[is_held])
        return held_out
