"""What a `thoughts` router has learned: the network, and which of the experts it knows."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from composer.latent.routing import ThoughtRouter
from composer.types import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Arrays, Batch, Int64Array


@dataclass(frozen=True, eq=False)
class ThoughtsModel:
    """A trained network, whose raw scores are logits; see `routers.learning.Model`."""

    given: Mapping[str, Any]
    """The settings in use."""
    router: ThoughtRouter
    """Of the experts that it could learn of."""
    columns: Int64Array
    """Each expert's column there [m]; -1: nothing was known of it."""

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        return dict(self.given)

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`: a query's logits, whose mean over all experts is 0."""
        with torch.inference_mode():
            logits: Float32Array = self.router(torch.from_numpy(batch.embeddings)).numpy()
        return np.where(self.columns < 0, np.float32(np.nan), logits[:, self.columns])

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`: the expert's level, what the query's text says, and its share."""
        raw = self.predict(batch.rows(np.array([row], np.int64)))[0]
        shares = np.exp(raw - np.nanmax(raw))
        share = float(shares[column] / np.nansum(shares))
        number = int(self.columns[column])
        if number < 0:
            return Evidence("nothing was known of it where this was learned", {})
        level = float(self.router.outer.bias[number])
        parts = {"level": level, "text": float(raw[column]) - level}
        shown = ", ".join(f"{part} {amount:+.2f}" for part, amount in parts.items())
        details = {"parts": parts, "share": share}
        return Evidence(f"{share:.0%} of the routing: {shown}", details)

    def without(self, column: int) -> ThoughtsModel:
        """See `Model.without`; the network stays whole, so that the others' logits do."""
        return ThoughtsModel(self.given, self.router, np.delete(self.columns, column))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        arrays = {name: tensor.numpy() for name, tensor in self.router.state_dict().items()}
        meta = {"settings": self.settings, "network": self.router.described()}
        return meta, {**arrays, "columns": self.columns}


def read_model(meta: Mapping[str, Any], arrays: Arrays) -> ThoughtsModel:
    """The model of which `ThoughtsModel.state` gave this.

    Raises:
        KeyError, ValueError: It is no such state.
    """
    router = read_network(meta["network"], arrays)
    columns = arrays["columns"]
    if columns.ndim != 1 or not ((columns >= -1) & (columns < router.experts)).all():
        raise ValueError(f"columns {columns.tolist()} of {router.experts} experts")
    return ThoughtsModel(meta["settings"], router, columns)


def read_network(shape: Mapping[str, Any], arrays: Arrays) -> ThoughtRouter:
    """The network of a router, in no training.

    Args:
        shape: See `ThoughtRouter.described`.
        arrays: Its weights by their names, and perhaps more.

    Raises:
        KeyError, ValueError: These are no such weights.
    """
    router = ThoughtRouter(shape["dimension"], shape["experts"], hidden=shape["hidden"])
    weights = {name: torch.from_numpy(arrays[name]) for name in router.state_dict()}
    try:
        router.load_state_dict(weights)
    except RuntimeError as exc:
        raise ValueError(f"weights of other shapes than {dict(shape)}") from exc
    return router.eval().requires_grad_(requires_grad=False)
