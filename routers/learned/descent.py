"""Trains a network with one inner layer by gradient descent, for as many epochs as were best.

Source: AdamW, Loshchilov and Hutter, arXiv 1711.05101; gradients are written out, since a network
of two matrices needs no autograd, and numpy is deterministic and at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.learned.network import (
    Activation,
    Network,
    activate,
    through_activation,
    through_unit,
    to_unit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

Weights = Mapping[str, "Float32Array"]
Objective = Callable[["Float32Array", "Float32Array", np.random.Generator], "Float32Array"]
"""The gradient [n, m] of a loss by raw scores, from raw and recorded scores [n, m]."""
GroupObjective = Callable[
    ["Float32Array", "NDArray[np.int64]", np.random.Generator], "Float32Array"
]
"""The gradient [n, w] of a loss by what the inner layer gives, from that and groups [n]."""
_BATCH = 128
_RATE = 1e-3
_DECAY = 0.02
_SEED = 0


@dataclass(frozen=True, slots=True)
class Design:
    """What kind of network is trained, and on what."""

    activation: Activation
    """`unit`: the raw score is the cosine of the inner layer and the expert's own vector, and no
    expert has a level."""
    width: int
    """Of the inner layer."""
    objective: Objective
    group_objective: GroupObjective | None = None


def train_network(
    design: Design,
    embeddings: Float32Array,
    score: Float32Array,
    groups: NDArray[np.int64],
    epochs: Sequence[int],
) -> Iterator[Network]:
    """The network after each of some numbers of epochs. Deterministic.

    Args:
        design: Of the network.
        embeddings: [n, d].
        score: [n, m] in [0, 1]; NaN: unknown.
        groups: Each row's group [n].
        epochs: Ascending, each at least 1.
    """
    rng = np.random.default_rng(_SEED)
    center = embeddings.mean(axis=0)
    # A fresh inner layer then gives numbers of about 1.
    scale = np.float32(1 / max(float((embeddings - center).std()), 1e-6))
    x = (embeddings - center) * scale
    weights = _start(design, x.shape[1], score, rng)
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    n_steps = 0
    for epoch in range(1, max(epochs) + 1):
        order = rng.permutation(len(x))
        for begin in range(0, len(x), _BATCH):
            rows = order[begin : begin + _BATCH]
            slopes = gradient(design, weights, x[rows], score[rows], groups[rows], rng)
            n_steps += 1
            for name, slope in slopes.items():
                weights[name] = _adamw(weights[name], slope, moments[name], n_steps)
        if epoch in epochs:
            yield _network(design, weights, center, scale, score)


def gradient(
    design: Design,
    weights: Weights,
    x: Float32Array,
    score: Float32Array,
    groups: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, Float32Array]:
    """The gradient of the design's loss, its mean over the rows, by each of the weights."""
    inner = x @ weights["inner"] + weights["shift"]
    hidden = activate(inner, design.activation)
    is_unit = design.activation == "unit"
    outer = to_unit(weights["outer"], axis=0) if is_unit else weights["outer"]
    by_raw = design.objective(hidden @ outer + weights["level"], score, rng)
    by_hidden = by_raw @ outer.T
    if design.group_objective is not None:
        by_hidden = by_hidden + design.group_objective(hidden, groups, rng)
    by_inner = through_activation(by_hidden, inner, design.activation)
    by_outer, by_level = hidden.T @ by_raw, by_raw.sum(axis=0)
    if is_unit:
        by_outer, by_level = through_unit(by_outer, weights["outer"], axis=0), 0 * by_level
    return {
        "inner": x.T @ by_inner,
        "shift": by_inner.sum(axis=0),
        "outer": by_outer,
        "level": by_level,
    }


def _start(
    design: Design, d: int, score: Float32Array, rng: np.random.Generator
) -> dict[str, Float32Array]:
    m = score.shape[1]
    inner = rng.normal(0, d**-0.5, (d, design.width))
    outer = rng.normal(0, design.width**-0.5, (design.width, m))
    level = np.zeros(m)
    if design.activation != "unit":
        # No query is told from another yet, and experts are told by how often each is right.
        known = (~np.isnan(score)).sum(axis=0)
        mean = (np.nansum(score, axis=0) + 0.5) / (known + 1)
        outer, level = 0 * outer, np.log(mean / (1 - mean))
    start = {"inner": inner, "shift": np.zeros(design.width), "outer": outer, "level": level}
    return {name: array.astype(np.float32) for name, array in start.items()}


def _adamw(
    weight: Float32Array, slope: Float32Array, moments: tuple[Float32Array, Float32Array], step: int
) -> Float32Array:
    mean, square = moments
    mean += np.float32(0.1) * (slope - mean)
    square += np.float32(0.001) * (slope**2 - square)
    corrected = mean / np.float32(1 - 0.9**step)
    deviation = np.sqrt(square / np.float32(1 - 0.999**step)) + np.float32(1e-8)
    # Matrices decay; shifts and levels do not.
    decay = np.float32(_DECAY if weight.ndim == 2 else 0)
    return (weight - np.float32(_RATE) * (corrected / deviation + decay * weight)).astype(
        np.float32
    )


def _network(
    design: Design, weights: Weights, center: Float32Array, scale: np.float32, score: Float32Array
) -> Network:
    outer = weights["outer"]
    if design.activation == "unit":
        outer = to_unit(outer, axis=0)
    is_known = (~np.isnan(score)).any(axis=0)
    level = np.where(is_known, weights["level"], np.nan).astype(np.float32)
    inner = weights["inner"] * scale
    return Network(center, outer, level, inner, weights["shift"], design.activation)
