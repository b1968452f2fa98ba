"""What a cascade was told: its stages, how it measures confidence, and what cannot work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from composer.backends import backend_entry
from composer.errors import ConfigError
from composer.experts import Expert
from composer.protocols import AggregatorNeed
from composer.suggest import unknown_name
from composer.types import AnswerType

Confidence = Literal["logprobs", "agreement", "votes", "verifier"]
Order = Literal["cheapest", "ranked"]

MEASURES: Mapping[Confidence, tuple[str, ...]] = {
    "logprobs": ("mean", "min", "share", "entropy", "variance"),
    "agreement": ("share", "entropy", "variance"),
    "votes": ("share", "entropy", "variance"),
    "verifier": ("logprobs", "text"),
}
"""How each confidence can be measured, the default first; see the module `confidence`."""

FITTED_MEASURES = ("share", "posterior")
"""Of votes, as `fit_cascade` measures them: `posterior` needs what was learned of each expert."""

DEFAULT_N = 5
DEFAULT_TEMPERATURE = 0.7
"""As in the paper on self-consistency (arXiv 2203.11171), section 3.1; greedy samples are equal."""


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """A cascade that can work."""

    confidence: Confidence
    measure: str
    thresholds: tuple[float, ...]
    """One of each stage but the last, in [0, infinity); above 1: the stage never answers alone."""
    experts: tuple[str, ...] | None = None
    """From cheap to strong; None: the choices."""
    order: Order = "cheapest"
    answer_type: AnswerType = "choice"
    n: int = DEFAULT_N
    temperature: float = DEFAULT_TEMPERATURE
    by: str | None = None
    accuracies: tuple[float, ...] = ()
    """Of the experts in their order, for `posterior`."""
    n_options: int = 2
    """How many answers there are, for `posterior`."""

    @property
    def stage_needs(self) -> frozenset[AggregatorNeed]:
        """What each stage's engine must give, the last one excepted."""
        needs: Mapping[Confidence, AggregatorNeed] = {"logprobs": "logprobs", "agreement": "n"}
        return frozenset({needs[self.confidence]} if self.confidence in needs else ())

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`; what every expert must give is left to `needs`."""
        n_stages = len(self.thresholds) + 1
        if self.experts is None and k != n_stages:
            refuse(
                f"'choose.k' is {k} and {len(self.thresholds)} thresholds are for {n_stages} "
                f"stages; set choose.k to {n_stages}, or name the stages' 'experts'"
            )
        for name in (*(self.experts or ()), *filter(None, (self.by,))):
            if name not in experts:
                refuse(unknown_name("expert", name, experts))
        for name in (self.experts or ())[:-1]:
            _check_can_give(experts[name], self.stage_needs)
        if self.by is not None and self.measure == "logprobs":
            _check_can_give(experts[self.by], {"logprobs"}, "or set measure: text")


def read_settings(
    *,
    experts: Sequence[str] | None,
    confidence: Confidence | None,
    thresholds: Sequence[float] | None,
    measure: str | None,
    order: Order,
    answer_type: AnswerType,
    n: int | None,
    temperature: float | None,
    by: str | None,
) -> CascadeSettings:
    """The settings as a composition gives them, checked against one another.

    Raises:
        ConfigError: They make no cascade.
    """
    if confidence is None:
        refuse(f"no 'confidence' is set; choose one of {list(MEASURES)}, or give 'from'")
    check_stages(experts, thresholds)
    for name, value, owner in (
        ("n", n, "agreement"),
        ("temperature", temperature, "agreement"),
        ("by", by, "verifier"),
    ):
        if value is not None and confidence != owner:
            refuse(f"{name!r} goes with confidence {owner!r}, not {confidence!r}; remove it")
    if confidence == "verifier" and by is None:
        refuse("confidence 'verifier' has nobody to ask; name the verifying expert in 'by'")
    if n is not None and n < 2:
        refuse(f"'n' is {n} and one sample agrees with nobody; set 2 or more")
    if temperature is not None and not 0 < temperature < math.inf:
        refuse(f"'temperature' is {temperature}, at which samples are equal; set it above 0")
    measure = MEASURES[confidence][0] if measure is None else measure
    if measure not in MEASURES[confidence]:
        known = list(MEASURES[confidence])
        refuse(f"confidence {confidence!r} has no measure {measure!r}; choose from {known}")
    return CascadeSettings(
        confidence,
        measure,
        tuple(float(threshold) for threshold in thresholds or ()),
        None if experts is None else tuple(experts),
        order,
        answer_type,
        DEFAULT_N if n is None else n,
        DEFAULT_TEMPERATURE if temperature is None else temperature,
        by,
    )


def check_stages(experts: Sequence[str] | None, thresholds: Sequence[float] | None) -> None:
    """Refuse stages that are too few, named twice, or do not go with the thresholds.

    Raises:
        ConfigError: They do not.
    """
    if experts is not None and len(experts) < 2:
        refuse(f"{list(experts)} is {len(experts)} stage; name two experts or more")
    if experts is not None and len(set(experts)) < len(experts):
        refuse(f"an expert of {list(experts)} is named twice; name each once")
    if not thresholds:
        refuse("no 'thresholds' are set; give one for each stage but the last, or give 'from'")
    if experts is not None and len(thresholds) != len(experts) - 1:
        refuse(
            f"{len(thresholds)} thresholds for {len(experts)} stages; give {len(experts) - 1}: one "
            "for each stage but the last"
        )
    for threshold in thresholds:
        if not 0 <= threshold < math.inf:
            refuse(f"threshold {threshold} is no confidence; give 0 to 1, or above 1 for never")


def refuse(what: str) -> NoReturn:
    """Raise what is wrong with a cascade.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(f"aggregator 'cascade': {what}")


def _check_can_give(expert: Expert, needs: Iterable[str], remedy: str = "") -> None:
    able = backend_entry(expert.engine).capabilities
    for need in sorted(needs):
        if not cast("bool", getattr(able, need)):
            otherwise = f", {remedy}" if remedy else ", or another confidence"
            refuse(
                f"it needs {need}, which {expert.name!r} ({expert.engine}) cannot give; name "
                f"another expert{otherwise}"
            )
