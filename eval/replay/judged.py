"""What a method did on the rows of a part, and how it was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a method did with one query."""

    query_id: str
    expert: str | None
    """Whose answer it took; None: nobody's in particular, or nobody answered."""
    asked: tuple[str, ...]
    score: float
    """What the answer was recorded to score in [0, 1]; NaN: not recorded. No answer scores 0."""
    cost_usd: float
    """Of all that were asked; NaN: not recorded."""
    predicted: float = float("nan")
    """The quality that the router predicted of the expert."""
    failed: bool = False
    """There was no answer."""


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """A method's decisions on a part, in the order of its rows."""

    method: str
    decisions: tuple[Decision, ...]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The settings used, those chosen on train included; `folds` where they differ by fold."""
    quality: Float32Array | None = None
    """What the router predicted of every expert, [n, m]; None: it is no router's decision."""

    @property
    def score(self) -> Float64Array:
        """[n]; NaN: unknown."""
        return np.array([decision.score for decision in self.decisions])

    @property
    def cost_usd(self) -> Float64Array:
        """[n]; NaN: unknown."""
        return np.array([decision.cost_usd for decision in self.decisions])


def join(judged: Sequence[Judged]) -> Judged:
    """The decisions of several rounds as those of one part."""
    first = judged[0]
    if len(judged) == 1:
        return first
    settings = [each.settings for each in judged]
    qualities = [each.quality for each in judged if each.quality is not None]
    return Judged(
        first.method,
        tuple(decision for each in judged for decision in each.decisions),
        first.settings if all(s == settings[0] for s in settings) else {"folds": settings},
        np.concatenate(qualities) if len(qualities) == len(judged) else None,
    )
