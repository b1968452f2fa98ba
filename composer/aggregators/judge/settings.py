"""Who judges and how it is asked: the settings that all aggregators with a judge share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from composer.backends import backend_entry
from composer.errors import ConfigError
from composer.experts import Expert
from composer.suggest import unknown_name

Mode = Literal["pointwise", "pairwise"]
"""A score of each proposal, or comparisons of two at a time."""


@dataclass(frozen=True, slots=True)
class Judge:
    """An expert as a judge."""

    by: str
    rubric: str | None = None
    """What it looks at, in words; None: correct, as asked, complete, clear."""
    samples: int = 1
    """Judgements of each proposal or comparison, drawn in one request; their mean counts."""
    temperature: float | None = None
    """To draw them at; None: the expert's own."""
    constrained: bool = True
    """Have the engine write nothing but the JSON asked for; what is read is the same if not."""
    judges_self: bool = False
    """Its own proposals may be judged."""


def make_judge(
    aggregator: str,
    by: str,
    *,
    rubric: str | None,
    samples: int,
    judge_temperature: float | None,
    constrained: bool,
    judge_self: bool,
) -> Judge:
    """The judge that an aggregator's settings describe.

    Raises:
        ConfigError: A value is out of range.
    """
    if rubric is not None and not rubric.strip():
        raise ConfigError(
            f"aggregator {aggregator!r}: 'rubric' is empty; say what to look at, or leave it out"
        )
    if samples < 1:
        raise ConfigError(f"aggregator {aggregator!r}: 'samples' is {samples}; set 1 or more")
    if judge_temperature is not None and judge_temperature < 0:
        raise ConfigError(
            f"aggregator {aggregator!r}: 'judge_temperature' is {judge_temperature}; "
            "set 0 or more, or leave it out"
        )
    return Judge(by, rubric, samples, judge_temperature, constrained, judge_self)


def check_judge(aggregator: str, judge: Judge, experts: Mapping[str, Expert]) -> None:
    """Refuse a judge that cannot do what is asked of it; nothing is loaded.

    Raises:
        ConfigError: It is unknown or would judge nobody but itself, its engine cannot write by a
            schema, or it would draw several judgements that are all the same.
    """
    if judge.by not in experts:
        raise ConfigError(f"aggregator {aggregator!r}: {unknown_name('expert', judge.by, experts)}")
    if set(experts) == {judge.by} and not judge.judges_self:
        raise ConfigError(
            f"aggregator {aggregator!r}: the judge {judge.by!r} is the only expert and would judge "
            "itself; add an expert, or set judge_self: true"
        )
    expert = experts[judge.by]
    if judge.constrained and not backend_entry(expert.engine).capabilities.schema:
        raise ConfigError(
            f"aggregator {aggregator!r}: the judge {judge.by!r} ({expert.engine}) cannot keep to a "
            "JSON schema; name another judge, or set constrained: false"
        )
    if judge.samples > 1 and not draws_differ(expert, judge.temperature):
        raise ConfigError(
            f"aggregator {aggregator!r}: {judge.samples} judgements of {judge.by!r} at temperature "
            "0 are all the same; set 'judge_temperature' above 0, or samples: 1"
        )


def draws_differ(expert: Expert, temperature: float | None) -> bool:
    """Whether an expert's samples can differ, at this temperature or, for None, at its own."""
    return bool(expert.sampling.temperature if temperature is None else temperature)
