"""A small network from a query's embedding to experts' raw scores: numbers and matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

Activation = Literal["linear", "relu", "unit"]
_LEAST_NORM = 1e-6


@dataclass(frozen=True, eq=False)
class Network:
    """raw = activation((x - center) @ inner + shift) @ outer + level.

    A linear one has no inner layer: raw = (x - center) @ outer + level.
    """

    center: Float32Array
    """[d], the mean embedding."""
    outer: Float32Array
    """[w, m], or [d, m] where there is no inner layer."""
    level: Float32Array
    """[m]; NaN: nothing is known of the expert."""
    inner: Float32Array | None = None
    """[d, w]."""
    shift: Float32Array | None = None
    """[w], with `inner`."""
    activation: Activation = "linear"

    def raw(self, embeddings: Float32Array) -> Float32Array:
        """Raw scores [n, m] of embeddings [n, d]."""
        x: Float32Array = embeddings - self.center
        if self.inner is not None and self.shift is not None:
            inner: Float32Array = x @ self.inner + self.shift
            x = activate(inner, self.activation)
        return x @ self.outer + self.level

    def calibrated(self, scale: float, offsets: NDArray[Any]) -> Self:
        """The network whose raw scores are these times the scale, plus the offsets [m]."""
        level = (self.level * scale + offsets).astype(np.float32)
        return replace(self, outer=self.outer * np.float32(scale), level=level)

    def columns(self, wanted: NDArray[np.int64]) -> Self:
        """The network of some experts, in the order wanted."""
        return replace(self, outer=self.outer[:, wanted], level=self.level[wanted])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its numbers, for `read_network`."""
        arrays = {"center": self.center, "outer": self.outer, "level": self.level}
        if self.inner is not None and self.shift is not None:
            arrays |= {"inner": self.inner, "shift": self.shift}
        return arrays


def read_network(arrays: Mapping[str, NDArray[Any]], activation: Activation) -> Network:
    """The network of which `Network.arrays` gave these.

    Raises:
        KeyError, ValueError: They are no such arrays.
    """
    network = Network(
        arrays["center"],
        arrays["outer"],
        arrays["level"],
        arrays.get("inner"),
        arrays.get("shift"),
        activation,
    )
    d, width = len(network.center), len(network.outer)
    inner_shape = (d, width) if network.inner is None else network.inner.shape
    if inner_shape != (d, width) or network.outer.shape[1:] != network.level.shape:
        raise ValueError(f"layers of shapes {inner_shape} and {network.outer.shape} do not fit")
    return network


def activate(hidden: Float32Array, activation: Activation) -> Float32Array:
    """What the inner layer [n, w] hands on: itself, its positive part, or its direction."""
    if activation == "relu":
        return np.maximum(hidden, 0)
    return to_unit(hidden, axis=1) if activation == "unit" else hidden


def through_activation(
    gradient: Float32Array, hidden: Float32Array, activation: Activation
) -> Float32Array:
    """The gradient [n, w] by what `activate` was given, from that by what it gave."""
    if activation == "relu":
        return gradient * (hidden > 0)
    return through_unit(gradient, hidden, axis=1) if activation == "unit" else gradient


def sigmoid(logits: Float32Array) -> Float32Array:
    """1 / (1 + exp(-logits)), without overflow."""
    half = np.float32(0.5)
    return (half * (1 + np.tanh(half * logits))).astype(np.float32)


def to_unit(vectors: Float32Array, axis: int) -> Float32Array:
    """The vectors along an axis, of norm 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=axis, keepdims=True), _LEAST_NORM)


def through_unit(gradient: Float32Array, vectors: Float32Array, axis: int) -> Float32Array:
    """The gradient by the vectors that `to_unit` was given, from that by what it gave."""
    norm = np.maximum(np.linalg.norm(vectors, axis=axis, keepdims=True), _LEAST_NORM)
    unit = vectors / norm
    return (gradient - unit * (unit * gradient).sum(axis=axis, keepdims=True)) / norm
