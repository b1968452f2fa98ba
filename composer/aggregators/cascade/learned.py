"""A fitted cascade on disk: stages, thresholds, accuracies, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from composer.aggregators.cascade.settings import FITTED_MEASURES, CascadeSettings, check_stages
from composer.aggregators.saved import load_learned, save_learned
from composer.errors import ConfigError
from composer.types import AnswerType

KIND = "cascade"


@dataclass(frozen=True, slots=True)
class LearnedCascade:
    """What a fit found."""

    settings: CascadeSettings
    expected: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Accuracy and cost to expect, on rows that took no part in the fit: JSON values."""


class _Saved(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # pyright: ignore[reportGeneralTypeIssues]

    experts: list[str]
    thresholds: list[float]
    confidence: str
    measure: str
    answer_type: AnswerType
    accuracies: list[float]
    n_options: int
    expected: dict[str, Any]


def save_cascade(folder: Path, cascade: LearnedCascade) -> None:
    """Write it, in the form that `load_cascade` reads."""
    settings = asdict(cascade.settings)
    kept = {key: settings[key] for key in _Saved.__annotations__ if key in settings}
    lists = {key: list(kept[key]) for key in ("experts", "thresholds", "accuracies")}
    save_learned(folder, KIND, {**kept, **lists, "expected": dict(cascade.expected)})


def load_cascade(folder: Path) -> LearnedCascade:
    """What `save_cascade` wrote.

    Raises:
        ConfigError: There is none, or it is not whole.
    """
    learned = load_learned(folder, KIND)
    try:
        saved = TypeAdapter(_Saved).validate_python(learned, strict=True)
        check_stages(saved["experts"], saved["thresholds"])
        _check_votes(saved)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(
            f"{folder}: the saved cascade's {where!r} is wrong: {why}; fit it again"
        ) from exc
    settings = CascadeSettings(
        "votes",
        saved["measure"],
        tuple(saved["thresholds"]),
        tuple(saved["experts"]),
        answer_type=saved["answer_type"],
        accuracies=tuple(saved["accuracies"]),
        n_options=saved["n_options"],
    )
    return LearnedCascade(settings, saved["expected"])


def _check_votes(saved: _Saved) -> None:
    if saved["confidence"] != "votes" or saved["measure"] not in FITTED_MEASURES:
        raise ConfigError(
            f"aggregator 'cascade': what was saved measures {saved['confidence']!r} by "
            f"{saved['measure']!r}, and only votes by {list(FITTED_MEASURES)} are fitted; fit it "
            "again"
        )
    is_known = len(saved["accuracies"]) == len(saved["experts"]) and saved["n_options"] >= 2
    if not is_known or not all(0 < p < 1 for p in saved["accuracies"]):
        raise ConfigError(
            f"aggregator 'cascade': the saved accuracies {saved['accuracies']} of "
            f"{len(saved['experts'])} experts and {saved['n_options']} options weigh no votes; fit "
            "it again"
        )
