"""A fitted router read from disk again: what `routers.saved` wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import RecordedExpert
from composer.types import Annotation
from routers.artefact import load_artefact
from routers.calibration import Calibration
from routers.explained import Fitted
from routers.features import Features
from routers.fitted import OutcomeRouter
from routers.learning import Batch, Training
from routers.saved import MODEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import Encoder
    from routers.learning import Learner

    Arrays = Mapping[str, NDArray[Any]]

SAME = 0.99
"""Cosine of a text's embeddings by one encoder, run on whatever machine: at least so much."""


def load_outcome_router(
    folder: Path, kind: str, make: Callable[[Mapping[str, Any]], Learner], encoder: Encoder
) -> OutcomeRouter:
    """What `save_router` wrote.

    Args:
        folder: Where.
        kind: The router's name.
        make: Makes the learner of its settings.
        encoder: Must embed as the one that it was fitted with.

    Raises:
        ConfigError: There is none, it is not whole, or the encoder is another one.
    """
    meta, arrays = load_artefact(folder, kind)
    try:
        learner = make(meta["given"])
        share = meta["lexical_share"]
        router = OutcomeRouter(
            learner, encoder, lexical_share=share, calibration=meta["calibration"]
        )
        router.features = Features.load(folder, encoder, share)
        training = _training(meta, arrays, router.features)
        own = {n.removeprefix(MODEL): a for n, a in arrays.items() if n.startswith(MODEL)}
        router.fitted = Fitted(
            training,
            learner.restore(meta["model"], own),
            _calibration("hidden", meta, arrays),
            _calibration("known", meta, arrays),
            meta["summary"],
        )
    except (KeyError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"{folder}: is no router that this program can read ({exc!r}); fit and save it again"
        ) from exc
    embeddings = training.batch.embeddings
    anew = router.features.encode(training.batch.texts[:1])
    if anew.shape[1] != embeddings.shape[1] or anew[0] @ embeddings[0] < SAME:
        raise ConfigError(
            f"{folder}: was fitted with another encoder; name that one, or fit it again"
        )
    return router


def _training(meta: Mapping[str, Any], arrays: Arrays, features: Features) -> Training:
    embeddings = np.asarray(arrays["embeddings"], np.float32)
    annotations = (None if values is None else Annotation(values) for values in meta["annotations"])
    batch = Batch(
        tuple(meta["ids"]),
        tuple(meta["prompts"]),
        embeddings,
        features.semantic(embeddings),
        tuple(meta["categories"]),
        tuple(annotations),
    )
    experts = tuple(RecordedExpert(**expert) for expert in meta["experts"])
    return Training(batch, experts, arrays["score"], arrays["folds"], arrays.get("cost_usd"))


def _calibration(name: str, meta: Mapping[str, Any], arrays: Arrays) -> Calibration:
    return Calibration(meta["scales"][name], arrays[f"offsets_{name}"], arrays.get(f"knots_{name}"))
