"""Routes to the expert whose description is nearest to what the query asks for, by meaning.

    raw_j = alpha * cosine(embedding of the task, embedding of expert j's description)

The task is the query's own text or, with an `annotator`, one sentence in which that expert says
what kind of task the query is.

Source: Glider, arXiv 2410.07172, whose global router compares a description of the input's task,
written by a language model, with descriptions of the experts' training tasks; code
github.com/UNITES-Lab/glider at 439b49e (alpha is its `bias_routing_scale`).

Deviations:
- There a language model also writes the experts' descriptions, from sample questions. Here they are
  what the experts' entries say.
- There the task is described once for a whole benchmark, from samples of it. Here each query has
  a description of its own, for nobody tells a router which queries belong together.
- There the cosine is added to a router in each layer of a LoRA model, and a softmax follows. Whole
  experts have no such layers, so that the cosine stands alone.
- The softmax keeps the order of the experts, and a calibration has a scale of its own. So alpha
  changes neither the choice nor a calibrated quality; it is the sharpness of `DescriptionRouter`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.types import Evidence
from routers.description.annotator import describe_task, task_failure, task_of
from routers.learning import Lesson
from routers.settings import check_number
from routers.shortened import shortened

if TYPE_CHECKING:
    from composer.protocols import Encoder, Flow, RouterNeed
    from composer.types import Annotation, Float32Array, Query
    from routers.learning import Arrays, Batch, Training

ALPHA = 100.0
"""The source's."""
_NAME = "description"
_SAME = 0.99
"""Cosine of a text's embeddings by one encoder: at least so much."""


class DescriptionLearner:
    """Scores an expert by the cosine of its description with the query's task.

    Nothing is learned from outcomes but the calibration, which is the shell's. An expert without
    a description is unknown (NaN). Where the annotator failed the query's own text is the task.

    With an annotator every query costs one short answer of that expert before it is routed, and a
    weak one answers the query where it should describe it: give the job to a model that follows
    instructions.

    Args:
        encoder: The one that embeds queries by meaning.
        annotator: The expert that describes the task; None: the query's text is the task.
        alpha: See the module.

    Raises:
        ConfigError: A setting is out of its range.
    """

    name = _NAME

    def __init__(
        self, encoder: Encoder, *, annotator: str | None = None, alpha: float = ALPHA
    ) -> None:
        check_description_settings(annotator, alpha)
        self.needs = description_needs(annotator)
        self._encoder = encoder
        self._annotator = annotator
        self._alpha = alpha

    @property
    def given(self) -> dict[str, Any]:
        """See `Learner.given`."""
        return {"annotator": self._annotator, "alpha": self._alpha}

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`.

        Raises:
            ConfigError: No expert is described; no query's task is, though there is an annotator;
                or the queries were not embedded by the encoder.
        """
        descriptions = {expert.name: expert.description for expert in training.experts}
        model = make_model(self._encoder, descriptions, self._annotator, self._alpha)
        batch = training.batch
        if self._annotator is not None and not any(map(task_of, batch.annotations)):
            raise ConfigError(
                f"router {_NAME!r}: the task of no recorded query is described; "
                "profile with --annotate description, or leave out 'annotator'"
            )
        (own,) = self._encoder.encode(batch.texts[:1])
        if own.shape != batch.semantic[0].shape or own @ batch.semantic[0] < _SAME:
            raise ConfigError(
                f"router {_NAME!r}: queries are not embedded by the encoder that embeds "
                "descriptions; give a 'lexical_share' below 1"
            )
        # No row is learned from, so that each is held out as it is.
        raw = model.predict(batch)
        return Lesson(model, raw, raw)

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> DescriptionModel:
        """See `Learner.restore`."""
        return DescriptionModel(
            self._encoder, dict(meta["descriptions"]), meta["annotator"], meta["alpha"]
        )

    def annotate(self, query: Query, experts: Sequence[str]) -> Flow[Annotation] | None:
        """See `Learner.annotate`. It asks the annotator, whether or not that is scored itself."""
        return None if self._annotator is None else describe_task(query, self._annotator)


@dataclass(frozen=True, eq=False)
class DescriptionModel:
    """Compares the tasks of queries with m experts' descriptions."""

    encoder: Encoder
    descriptions: Mapping[str, str]
    """By expert, in the order of the columns; "": it has none."""
    annotator: str | None
    alpha: float

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        return {"annotator": self.annotator, "alpha": self.alpha}

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        return np.float32(self.alpha) * self._cosines(batch)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`."""
        name, description = list(self.descriptions.items())[column]
        if not description:
            return Evidence(f"{name!r} has no description")
        cosine = float(self._cosines(batch.rows(np.array([row])))[0, column])
        annotation = batch.annotations[row]
        task = None if self.annotator is None else task_of(annotation)
        against = "the query" if task is None else f"the task {shortened(task, 60)!r}"
        reason = f"its description has the cosine {cosine:.2f} with {against}"
        details: dict[str, Any] = {"description": description, "cosine": cosine, "task": task}
        if self.annotator is not None and task is None:
            failure = task_failure(annotation) or f"nobody asked {self.annotator!r}"
            reason += f", whose task is not described: {shortened(failure, 120)}"
            details["failure"] = failure
        return Evidence(reason, details)

    def without(self, column: int) -> DescriptionModel:
        """See `Model.without`."""
        left = [item for c, item in enumerate(self.descriptions.items()) if c != column]
        return replace(self, descriptions=dict(left))

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `Model.state`. The descriptions are embedded anew when it is restored."""
        # A list keeps the order of the columns, which a JSON object need not.
        return {**self.settings, "descriptions": [*self.descriptions.items()]}, {}

    @cached_property
    def _embeddings(self) -> Float32Array:
        """Of the descriptions, [m, s]; 0 where there is none."""
        described = {name: text for name, text in self.descriptions.items() if text}
        embedded = self.encoder.encode([*described.values()])
        rows = dict(zip(described, embedded, strict=True))
        return np.stack([rows.get(n, np.zeros_like(embedded[0])) for n in self.descriptions])

    def _cosines(self, batch: Batch) -> Float32Array:
        """[n, m]; NaN: the expert has no description."""
        is_described = np.array([bool(text) for text in self.descriptions.values()])
        cosines = self._embed_tasks(batch) @ self._embeddings.T
        return np.where(is_described, cosines, np.float32(np.nan))

    def _embed_tasks(self, batch: Batch) -> Float32Array:
        if self.annotator is None:
            return batch.semantic
        tasks = {row: t for row, a in enumerate(batch.annotations) if (t := task_of(a))}
        embeddings = batch.semantic.copy()
        if tasks:
            embeddings[[*tasks]] = self.encoder.encode([*tasks.values()])
        return embeddings


def make_model(
    encoder: Encoder, descriptions: Mapping[str, str], annotator: str | None, alpha: float
) -> DescriptionModel:
    """A model of experts' descriptions, white space around them left out.

    Raises:
        ConfigError: No expert is described.
    """
    stripped = {name: text.strip() for name, text in descriptions.items()}
    if not any(stripped.values()):
        raise ConfigError(
            f"router {_NAME!r}: none of {sorted(stripped)} has a description; "
            "describe at least one expert"
        )
    return DescriptionModel(encoder, stripped, annotator, alpha)


def check_description_settings(annotator: Any, alpha: Any) -> None:
    """Refuse settings that are wrong.

    Raises:
        ConfigError: One is.
    """
    check_number(_NAME, "alpha", alpha, least=1e-3, most=1e4)
    if annotator is not None and not (isinstance(annotator, str) and annotator):
        raise ConfigError(
            f"router {_NAME!r}: 'annotator' is {annotator!r}; give an expert's name, "
            "or leave it out"
        )


def description_needs(annotator: str | None) -> frozenset[RouterNeed]:
    """What a router needs with or without an annotator."""
    return frozenset({"descriptions"} if annotator is None else {"descriptions", "annotations"})
