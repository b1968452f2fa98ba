"""The shell of every router that learns from outcomes: what is the same whatever the algorithm.

It embeds prompts, hands an algorithm its training, calibrates the raw scores on the held-out ones,
explains with the nearest recorded queries, saves and loads, and takes experts in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from composer.errors import ConfigError, RoutingError
from composer.suggest import unknown_name
from composer.types import Scores
from routers.calibration import calibrate
from routers.explained import Explainer, Fitted
from routers.features import LEXICAL_SHARE, Features
from routers.learning import Batch, Learner, Training, is_told, make_training
from routers.saved import save_router
from routers.settings import check_choice
from routers.summary import summarise

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from composer.protocols import Encoder, Flow, RouterNeed
    from composer.types import Annotation, Float32Array, Query
    from routers.calibration import CalibrationKind

CALIBRATIONS: tuple[CalibrationKind, ...] = ("platt", "isotonic")


class OutcomeRouter:
    """A router that has learned from recorded outcomes, or is to.

    Args:
        learner: The algorithm.
        encoder: Embeds recorded queries and new ones alike, by their meaning.
        lexical_share: Of the cosine by words, see `routers.features`.
        calibration: See `routers.calibration`.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    def __init__(
        self,
        learner: Learner,
        encoder: Encoder,
        *,
        lexical_share: float = LEXICAL_SHARE,
        calibration: CalibrationKind = "platt",
    ) -> None:
        check_choice(learner.name, "calibration", calibration, CALIBRATIONS)
        self.name = learner.name
        self.needs: frozenset[RouterNeed] = learner.needs
        self.learner = learner
        self.encoder = encoder
        self.features = Features(encoder, lexical_share)
        self.calibration: CalibrationKind = calibration
        self.fitted: Fitted | None = None

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that it scores.

        Raises:
            RoutingError: It is not fitted.
        """
        return self._ready.training.names

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in use; those left open are known once it is fitted."""
        own = self.learner.given if self.fitted is None else self.fitted.model.settings
        common = {"lexical_share": self.features.lexical_share, "calibration": self.calibration}
        return {**own, **common}

    @property
    def summary(self) -> Mapping[str, Any]:
        """What it last learned from, and how well it chose on held-out rows: JSON values.

        Raises:
            RoutingError: It is not fitted.
        """
        return self._ready.summary

    def fit(self, table: OutcomeTable) -> Self:
        """See `FittedRouter.fit`.

        Raises:
            ConfigError: Nothing is known of an expert, there are fewer queries than experts, or
                every query scored the same for all of them.
        """
        known = table.rows(np.asarray((~np.isnan(table.score)).any(axis=1)))
        self._check(known.names, known.score)
        prompts = [query.prompt for query in known.queries]
        features = Features(self.encoder, self.features.lexical_share)
        embeddings = features.fit_encode(prompts)
        training = make_training(known, embeddings, features.semantic(embeddings))
        self.fitted = self._learn(training)
        self.features = features
        return self

    def annotate(self, query: Query) -> Flow[Annotation] | None:
        """See `Router.annotate`.

        Raises:
            RoutingError: It is not fitted.
        """
        return self.learner.annotate(query, self._ready.training.names)

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`.

        Raises:
            RoutingError: It is not fitted.
        """
        fitted = self._ready
        batch = self._batch(queries, annotations)
        raw = fitted.model.predict(batch)
        told = is_told(batch, fitted.training.categories)
        quality = np.where(
            told[:, None], fitted.known.quality(raw), fitted.hidden.quality(raw)
        ).astype(np.float32)
        return Scores(fitted.training.names, quality, Explainer(fitted, batch, raw).explain)

    def add_expert(self, table: OutcomeTable) -> Self:
        """Score another expert as well, or one anew: learn again, of the same queries.

        Args:
            table: Its outcomes, one column or more, on some of the queries fitted on; other
                queries are left out.

        Raises:
            ConfigError: It was asked none of the queries, or what is known of it teaches nothing.
            RoutingError: It is not fitted.
        """
        training = self._ready.training
        # By the prompt too: another benchmark may count its queries by the same ids.
        row_of = {(query.id, query.prompt): row for row, query in enumerate(table.queries)}
        recorded = zip(training.batch.ids, training.batch.texts, strict=True)
        shared = [(i, row_of[query]) for i, query in enumerate(recorded) if query in row_of]
        if not shared:
            raise ConfigError(
                f"router {self.name!r}: {list(table.names)} answered none of the queries that it "
                "was fitted on; fit it again on a table of all"
            )
        to, of = (list(numbers) for numbers in zip(*shared, strict=True))
        added = np.full((len(training.batch), len(table.names)), np.nan, np.float32)
        added[to] = table.score[of]
        kept = [c for c, name in enumerate(training.names) if name not in table.names]
        score = np.concatenate([training.score[:, kept], added], axis=1)
        cost = None
        if training.cost_usd is not None:
            of_added = np.full_like(added, np.nan)
            if table.cost_usd is not None:
                of_added[to] = table.cost_usd[of]
            cost = np.concatenate([training.cost_usd[:, kept], of_added], axis=1)
        experts = (*(training.experts[c] for c in kept), *table.experts)
        self._check([expert.name for expert in experts], score)
        self.fitted = self._learn(replace(training, experts=experts, score=score, cost_usd=cost))
        return self

    def remove_expert(self, name: str) -> Self:
        """Score an expert no more; what the others score stays as it is.

        Raises:
            ConfigError: No expert has the name, or it is the last one.
            RoutingError: It is not fitted.
        """
        fitted, training = self._ready, self._ready.training
        if name not in training.names:
            raise ConfigError(
                f"router {self.name!r}: {unknown_name('expert', name, training.names)}"
            )
        if len(training.names) == 1:
            raise ConfigError(f"router {self.name!r}: {name!r} is its last expert; keep it")
        column = training.names.index(name)
        cost = training.cost_usd
        self.fitted = Fitted(
            replace(
                training,
                experts=tuple(e for e in training.experts if e.name != name),
                score=np.delete(training.score, column, axis=1),
                cost_usd=None if cost is None else np.delete(cost, column, axis=1),
            ),
            fitted.model.without(column),
            fitted.hidden.without(column),
            fitted.known.without(column),
            fitted.summary,
        )
        return self

    def save(self, folder: Path) -> None:
        """See `routers.saved.save_router`."""
        save_router(self, folder)

    @property
    def _ready(self) -> Fitted:
        if self.fitted is None:
            raise RoutingError(f"router {self.name!r} is not fitted; fit it on recorded outcomes")
        return self.fitted

    def _check(self, names: Sequence[str], score: Float32Array) -> None:
        """Refuse scores that teach nothing; rows of which nothing is known do not count."""
        score = score[~np.isnan(score).all(axis=1)]
        if not len(score):
            raise ConfigError(f"router {self.name!r}: no outcome to learn from; record some")
        for name, column in zip(names, score.T, strict=True):
            if np.isnan(column).all():
                raise ConfigError(
                    f"router {self.name!r}: no outcome of {name!r} to learn from; leave it out"
                )
        n, m = score.shape
        if n < max(2, m):
            raise ConfigError(
                f"router {self.name!r}: {n} queries with outcomes are too few for {m} experts; "
                "record at least as many queries as experts, or leave experts out"
            )
        spread = np.nanmax(score, axis=1) - np.nanmin(score, axis=1)
        if m > 1 and not (spread > 0).any():
            raise ConfigError(
                f"router {self.name!r}: on every query all experts scored the same, so nothing "
                "tells them apart; record harder queries, or other experts"
            )

    def _learn(self, training: Training) -> Fitted:
        # Of rows that only an expert since removed answered, nothing is known.
        taught = training.rows(np.asarray((~np.isnan(training.score)).any(axis=1)))
        lesson = self.learner.fit(taught)
        hidden, known = (
            calibrate(raw, taught.score, self.calibration, own_offsets=lesson.own_offsets)
            for raw in (lesson.held_out, lesson.held_out_known)
        )
        summary = summarise(
            taught, hidden.quality(lesson.held_out), known.quality(lesson.held_out_known)
        )
        return Fitted(training, lesson.model, hidden, known, summary)

    def _batch(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Batch:
        texts = tuple(query.text for query in queries)
        embeddings = self.features.encode(texts)
        return Batch(
            tuple(query.id for query in queries),
            texts,
            embeddings,
            self.features.semantic(embeddings),
            tuple(query.category for query in queries),
            tuple(annotations),
        )
