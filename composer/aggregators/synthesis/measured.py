"""Who aggregates best: what a benchmark of experts as aggregators measured, saved and read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from composer.aggregators.saved import NAME, load_learned, save_learned
from composer.errors import ConfigError

KIND = "aggregating expert"
_Z = 1.959963984540054
"""Of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class AggregatorScore:
    """How often an expert found the right answer among references."""

    expert: str
    n: int
    """Cases that it answered."""
    n_right: int

    @property
    def accuracy(self) -> float | None:
        """The share that it got right; None: it answered nothing."""
        return self.n_right / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy; None: it answered nothing.

        Source: Wilson, Probable inference (1927).
        """
        if self.accuracy is None:
            return None
        z2 = _Z * _Z
        middle = (self.n_right + z2 / 2) / (self.n + z2)
        share = self.accuracy
        half = _Z * math.sqrt(share * (1 - share) / self.n + z2 / (4 * self.n**2))
        half /= 1 + z2 / self.n
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        """What is saved and shown."""
        return {
            "expert": self.expert,
            "n": self.n,
            "n_right": self.n_right,
            "accuracy": self.accuracy,
            "interval": self.interval,
        }


def save_scores(folder: Path, scores: Sequence[AggregatorScore]) -> None:
    """Keep them in a folder; the aggregators' setting `from` reads it."""
    save_learned(folder, KIND, {"experts": [score.to_json() for score in scores]})


def load_scores(folder: Path) -> tuple[AggregatorScore, ...]:
    """What `save_scores` wrote.

    Raises:
        ConfigError: There is none, or it is something else.
    """
    remedy = f"measure with `composer profile CASES --aggregators --save {folder}`"
    learned = load_learned(folder, KIND, remedy=remedy)
    try:
        saved = TypeAdapter(list[Mapping[str, Any]]).validate_python(learned.get("experts"))
        counts = [{key: each[key] for key in ("expert", "n", "n_right")} for each in saved]
        return TypeAdapter(tuple[AggregatorScore, ...]).validate_python(counts)
    except (KeyError, ValidationError) as exc:
        raise ConfigError(f"{folder / NAME}: holds no scores of experts; {remedy}") from exc


def best_measured(folder: Path) -> str:
    """The expert of the highest accuracy; of equal ones the one that was measured first.

    Raises:
        ConfigError: As `load_scores`; or no expert answered anything.
    """
    known = [s for s in load_scores(folder) if s.accuracy is not None]
    if not known:
        raise ConfigError(
            f"{folder / NAME}: no expert answered a case; mend the experts, and measure again with "
            f"`composer profile CASES --aggregators --save {folder}`"
        )
    return max(known, key=lambda score: score.accuracy or 0.0).expert


def check_free(folder: Path) -> None:
    """Refuse a folder that holds what another aggregator learned.

    Raises:
        ConfigError: It does.
    """
    if (folder / NAME).exists():
        load_learned(folder, KIND, remedy="name another folder")
