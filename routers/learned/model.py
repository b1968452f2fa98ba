"""What a learned router has learned: a network, and what a known category adds to its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.types import Evidence
from routers.learned.categories import category_numbers
from routers.learned.network import Network, read_network
from routers.learned.selection import LEAST_GATE, gates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learned.network import Activation
    from routers.learning import Arrays, Batch


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """A network of some head, whose raw scores are logits; see `routers.learning.Model`."""

    given: Mapping[str, Any]
    """The settings in use."""
    network: Network
    scale: float
    """What made logits of the raw scores that the head was trained on."""
    categories: tuple[str, ...]
    offsets: Float32Array
    """What a known category adds, [c, m]."""

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        return dict(self.given)

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        return self.network.raw(batch.embeddings) + self._of_category(batch)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`: the expert's level, what the query's text says, and the category."""
        one = batch.rows(np.array([row], np.int64))
        level = float(self.network.level[column])
        raw = self.network.raw(one.embeddings)
        parts = {"level": level, "text": float(raw[0, column]) - level}
        if one.categories[0] in self.categories:
            parts["category"] = float(self._of_category(one)[0, column])
        details: dict[str, Any] = {"parts": parts}
        shown = ", ".join(f"{part} {amount:+.2f}" for part, amount in parts.items())
        if self.given["head"] == "selection":
            logits = self.predict(one) / np.float32(self.scale)
            details["gate"] = float(gates(logits, least=0)[0, column])
            shown += f"; gate {details['gate']:.2f}"
            shown += "" if gates(logits)[0, column] else f", under {LEAST_GATE}: left out"
        return Evidence(f"{self.given['head']} head: {shown}", details)

    def without(self, column: int) -> LearnedModel:
        """See `Model.without`."""
        kept = np.delete(np.arange(len(self.network.level)), column)
        return self.columns(kept)

    def columns(self, wanted: NDArray[np.int64]) -> LearnedModel:
        """The model of some experts, in the order wanted."""
        network, offsets = self.network.columns(wanted), self.offsets[:, wanted]
        return replace(self, network=network, offsets=offsets)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {
            "settings": self.settings,
            "scale": self.scale,
            "categories": list(self.categories),
        }
        return meta, {**self.network.arrays(), "offsets": self.offsets}

    def _of_category(self, batch: Batch) -> Float32Array:
        none = np.zeros((1, self.offsets.shape[1]), np.float32)
        codes = category_numbers(batch.categories, self.categories)
        return np.concatenate([self.offsets, none])[codes]


def read_model(meta: Mapping[str, Any], arrays: Arrays, activation: Activation) -> LearnedModel:
    """The model of which `LearnedModel.state` gave this.

    Raises:
        KeyError, ValueError: It is no such state.
    """
    network, offsets = read_network(arrays, activation), arrays["offsets"]
    categories = tuple(meta["categories"])
    if offsets.shape != (len(categories), len(network.level)):
        raise ValueError(f"offsets of shape {offsets.shape} for {len(categories)} categories")
    return LearnedModel(meta["settings"], network, float(meta["scale"]), categories, offsets)
