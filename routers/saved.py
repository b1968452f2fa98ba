"""A fitted router on disk: what it has learned, and the recorded queries that it explains with.

router.json    kind, schema version, settings, experts, queries, what the algorithm keeps
arrays.npz     embeddings, scores, folds, calibrations, the algorithm's arrays
lexical/       the words, see `routers.features`
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from composer.errors import ConfigError
from routers.artefact import discard_artefact, save_artefact

if TYPE_CHECKING:
    from routers.fitted import OutcomeRouter

MODEL = "model/"
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
        folder, router.name, meta, own | {MODEL + name: array for name, array in arrays.items()}
    )
