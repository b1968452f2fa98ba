"""Routes by experts' descriptions alone: what the learner beside it does before any outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from composer.errors import ConfigError
from composer.suggest import unknown_name
from composer.types import Scores
from routers.description.annotator import describe_task
from routers.description.learner import (
    ALPHA,
    check_description_settings,
    description_needs,
    make_model,
)
from routers.learning import Batch

if TYPE_CHECKING:
    from composer.experts import Expert
    from composer.protocols import Encoder, Flow
    from composer.types import Annotation, Query


class DescriptionRouter:
    """Scores an expert by its share of a softmax over the experts' descriptions.

    The quality is softmax(alpha * cosine), as in the source, see `routers.description.learner`: the
    described experts' qualities add up to 1. It is no probability of success. With the source's
    alpha of 100 a cosine greater by 0.03 is worth odds of 20 to 1; give less where a price is to be
    weighed against the quality. An expert without a description is unknown (NaN). Descriptions are
    embedded when the first queries come.

    Args:
        experts: By name; their order is that of the scores' columns.
        encoder: Embeds queries, tasks and descriptions alike.
        annotator: The expert that describes the task; None: the query's text is the task.
        alpha: Of the softmax.

    Raises:
        ConfigError: A setting is wrong, the annotator is none of the experts, or no expert is
            described.
    """

    name = "description"

    def __init__(
        self,
        experts: Mapping[str, Expert],
        encoder: Encoder,
        *,
        annotator: str | None = None,
        alpha: float = ALPHA,
    ) -> None:
        check_description_settings(annotator, alpha)
        if annotator is not None and annotator not in experts:
            raise ConfigError(f"router {self.name!r}: {unknown_name('expert', annotator, experts)}")
        self.needs = description_needs(annotator)
        self._encoder = encoder
        self._annotator = annotator
        descriptions = {name: expert.description for name, expert in experts.items()}
        self._model = make_model(encoder, descriptions, annotator, alpha)

    def annotate(self, query: Query) -> Flow[Annotation] | None:
        """See `Router.annotate`."""
        return None if self._annotator is None else describe_task(query, self._annotator)

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        model = self._model
        texts = tuple(query.text for query in queries)
        embedded = self._encoder.encode(texts)
        batch = Batch(
            tuple(query.id for query in queries),
            texts,
            embedded,
            embedded,
            tuple(query.category for query in queries),
            tuple(annotations),
        )
        raw = model.predict(batch).astype(np.float64)
        odds = np.exp(raw - np.nanmax(raw, axis=1, keepdims=True))
        quality = (odds / np.nansum(odds, axis=1, keepdims=True)).astype(np.float32)
        return Scores(
            tuple(model.descriptions),
            quality,
            lambda query, expert: model.why(batch, query, expert),
        )
