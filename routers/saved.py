"""A fitted router on disk: what it has learned, and the recorded queries that it explains with.

router.json    kind, schema version, settings, experts, queries, what the algorithm keeps
arrays.npz     embeddings, scores, folds, calibrations, the algorithm's arrays
lexical/       the words, see `routers.features`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import RecordedExpert
from composer.types import Annotation
from routers.artefact import discard_artefact, load_artefact, save_artefact
from routers.calibration import Calibration
from routers.explained import Fitted
from routers.features import Features
from routers.fitted import OutcomeRouter
from routers.learning import Batch, Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import Encoder
    from routers.learning import Learner

    Arrays = Mapping[str, NDArray[Any]]

SAME = 0.99
"""Cosine of a text's embeddings by one encoder, run on whatever machine: at least so much."""
_MODEL = "model/"
"""What the names of the algorithm's arrays begin with."""


def save_router(router: OutcomeRouter, folder: Path) -> None:
    """Write what a router is and has learned; the encoder is not part of it.

    Raises:
        ConfigError: It is not fitted.
    """
    if (fitted := router.fitted) is None:
        raise ConfigError(f"router {router.name!r} is not fitted; fit it before it is saved")
    training, batch = fitted.training, fitted.training.batch
    state, arrays = fitted.model.state()
    calibrations = {"hidden": fitted.hidden, "known": fitted.known}
    meta = {
        "given": dict(router.learner.given),
        "lexical_share": router.features.lexical_share,
        "calibration": router.calibration,
        "scales": {name: each.scale for name, each in calibrations.items()},
        "summary": dict(fitted.summary),
        "experts": [asdict(expert) for expert in training.experts],
        "ids": batch.ids,
        "prompts": batch.texts,
        "categories": batch.categories,
        "annotations": [None if a is None else dict(a.values) for a in batch.annotations],
        "model": state,
    }
    own = {
        "embeddings": batch.embeddings,
        "score": training.score,
        "folds": training.folds,
        **({} if training.cost_usd is None else {"cost_usd": training.cost_usd}),
        **{f"offsets_{name}": each.offsets for name, each in calibrations.items()},
        **{
            f"knots_{name}": each.knots
            for name, each in calibrations.items()
            if each.knots is not None
        },
    }
    # An old router must not be read with the new one's words, should this end half way.
    discard_artefact(folder)
    router.features.save(folder)
    save_artefact(
        folder, router.name, meta, own | {_MODEL + name: array for name, array in arrays.items()}
    )


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
        own = {n.removeprefix(_MODEL): a for n, a in arrays.items() if n.startswith(_MODEL)}
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
