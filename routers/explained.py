"""What a fitted router holds, and why a batch of queries scored as it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.types import Evidence
from routers.calibration import Calibration
from routers.index import FlatIndex
from routers.learning import Batch, Model, Training, is_told
from routers.shortened import shortened

if TYPE_CHECKING:
    from composer.types import Float32Array
    from routers.index import Int64Array

SHOWN = 3
"""Recorded queries in the evidence."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a router has learned."""

    training: Training
    model: Model
    hidden: Calibration
    """For queries whose category is not known."""
    known: Calibration
    summary: Mapping[str, Any]

    @cached_property
    def index(self) -> FlatIndex:
        """Of the recorded queries."""
        return FlatIndex(self.training.batch.embeddings)


class Explainer:
    """Why a batch of queries scored as it did; the nearest queries are searched when asked for."""

    def __init__(self, fitted: Fitted, batch: Batch, raw: Float32Array) -> None:
        self._fitted = fitted
        self._batch = batch
        self._raw = raw

    def explain(self, row: int, column: int) -> Evidence:
        """See `Scores.why`."""
        fitted = self._fitted
        one = self._batch.rows(np.array([row], np.int64))
        told = is_told(one, fitted.training.categories)[0]
        calibration = fitted.known if told else fitted.hidden
        own = fitted.model.why(self._batch, row, column)
        raw = float(self._raw[row, column])
        details = {
            **own.details,
            "raw": None if np.isnan(raw) else raw,
            "scale": calibration.scale,
            "offset": float(calibration.offsets[column]),
            "nearest": self._nearest_queries(row),
        }
        return Evidence(own.reason, details)

    def _nearest_queries(self, row: int) -> list[dict[str, Any]]:
        training = self._fitted.training
        similarity, ids = self._nearest
        numbers: list[int] = ids[row].tolist()
        return [
            {
                "id": training.batch.ids[i],
                "prompt": shortened(training.batch.texts[i], 200),
                "similarity": round(float(cosine), 4),
                "scores": {
                    name: round(float(score), 4)
                    for name, score in zip(training.names, training.score[i], strict=True)
                    if not np.isnan(score)
                },
            }
            for cosine, i in zip(similarity[row], numbers, strict=True)
        ]

    @cached_property
    def _nearest(self) -> tuple[Float32Array, Int64Array]:
        index = self._fitted.index
        return index.top_k(self._batch.embeddings, min(SHOWN, index.size))
