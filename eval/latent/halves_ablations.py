"""What of the mixture counts, on the models of "two halves of knowledge": one change at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.latent.halves_runs import Experiment, OnStep, train_run

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "insertion: after, Q = 3": {"insertion": "after", "levels": 3},
    "Q = 2": {"levels": 2},
    "Q = 3": {"levels": 3},
    "d = 16": {"width": 16},
    "d = 32": {"width": 32},
    "d = 128": {"width": 128},
    "gate: channel": {"gate": "channel"},
    "gate: none": {"gate": "none"},
    "attend_self": {"attend_self": True},
    "think_tokens: 0": {"think_tokens": 0},
    "refresh: every_n (2), think_tokens: 0": {
        "think_tokens": 0, "refresh": "every_n", "refresh_every": 2
    },
    "refresh: token, think_tokens: 0": {"think_tokens": 0, "refresh": "token"},
}  # fmt: skip
"""What is changed of the settings, by name."""


def ablate(
    experiment: Experiment, name: str, seed: int, models: Path, on_step: OnStep
) -> dict[str, Any]:
    """Train the mixture with one change; see `train_run`."""
    settings = experiment.settings.model_copy(update=dict(ABLATIONS[name]))
    return train_run(replace(experiment, settings=settings), "mixture", seed, models, on_step)
