"""What settings of the synthesising aggregators are refused when experts.yaml is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from composer.aggregators.references import ANSWER_TOKENS, SHORTEST_REFERENCE
from composer.aggregators.synthesis.measured import best_measured
from composer.errors import ConfigError
from composer.experts import Expert
from composer.prompts import inject_references
from composer.suggest import unknown_name
from composer.types import Message


def check_least(aggregator: str, least: float, **settings: float | None) -> None:
    """Refuse a setting below its least value; None passes.

    Raises:
        ConfigError: One is below.
    """
    for name, value in settings.items():
        if value is not None and value < least:
            raise ConfigError(
                f"aggregator {aggregator!r}: {name!r} is {value}; set {least} or more, or leave it "
                "out"
            )


def aggregating_expert(aggregator: str, by: str | None, from_: str | None) -> str | None:
    """The expert that is named, or the best that a benchmark measured; None: neither is set.

    Raises:
        ConfigError: Both are set, or the benchmark cannot be read.
    """
    if from_ is None:
        return by
    if by is not None:
        raise ConfigError(
            f"aggregator {aggregator!r}: 'by' and 'from' both say who aggregates; leave one out"
        )
    return best_measured(Path(from_))


def possible_readers(
    aggregator: str, by: str | None, experts: Mapping[str, Expert]
) -> tuple[str, ...]:
    """Who may aggregate: that expert, or else any.

    Raises:
        ConfigError: It does not exist.
    """
    if by is None:
        return tuple(experts)
    if by not in experts:
        raise ConfigError(
            f"aggregator {aggregator!r}: it aggregates by {by!r}; "
            f"{unknown_name('expert', by, experts)}"
        )
    return (by,)


def check_room(
    aggregator: str,
    experts: Mapping[str, Expert],
    readers: Iterable[str],
    n_references: int,
    max_tokens: int | None = None,
) -> None:
    """Refuse readers whose context cannot hold even the shortest references and an answer.

    The prompt is estimated at four characters a token, since nothing is loaded; an expert whose
    entry does not say its context is let pass.

    Args:
        aggregator: Its name.
        experts: All of experts.yaml.
        readers: Who reads references.
        n_references: How many they read at one time.
        max_tokens: What the answer may have; None: `ANSWER_TOKENS`.

    Raises:
        ConfigError: There is such a reader.
    """
    shortest = inject_references((Message("user", ""),), ["x" * SHORTEST_REFERENCE] * n_references)
    prompt_tokens = sum(len(message.content) for message in shortest) // 4
    answer_tokens = ANSWER_TOKENS if max_tokens is None else max_tokens
    for name in readers:
        args = experts[experts[name].base or name].engine_args
        limit = args.get("max_model_len", args.get("context"))
        if isinstance(limit, int) and limit < prompt_tokens + answer_tokens:
            raise ConfigError(
                f"aggregator {aggregator!r}: the context of {name!r} is {limit} tokens, and "
                f"{n_references} references need about {prompt_tokens}, the answer "
                f"{answer_tokens}; raise engine_args.max_model_len, or let fewer propose"
            )
