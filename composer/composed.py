"""A composition with its parts made, and the one way in which it chooses experts for queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from composer.choose import choose
from composer.experts import ChooseRule, Registry
from composer.protocols import Aggregator, Router
from composer.tools import estimate_tokens
from composer.types import DEFAULT_SAMPLING, Query, Scores, Selection

if TYPE_CHECKING:
    from composer.types import Float32Array


@dataclass(frozen=True, slots=True)
class Composed:
    """A composition with its parts made: who scores, how to choose, how to combine."""

    name: str
    router: Router
    rule: ChooseRule
    aggregator: Aggregator


def select(
    composed: Composed,
    registry: Registry,
    queries: Sequence[Query],
    scores: Scores,
    load_s: Float32Array,
) -> list[Selection]:
    """The experts of a composition for n queries.

    Args:
        composed: The composition.
        registry: Its experts, with their prices.
        queries: n of them.
        scores: The router's, of these queries.
        load_s: Seconds [m] until each expert could start.

    Raises:
        RoutingError: No expert is available.
    """
    return choose(
        scores,
        [query.id for query in queries],
        composed.rule,
        router=composed.router.name,
        cost_usd=expected_cost_usd(registry, queries, scores.experts),
        load_s=load_s,
    )


def expected_cost_usd(
    registry: Registry, queries: Sequence[Query], experts: Sequence[str]
) -> Float32Array:
    """What asking each expert would cost, [n, m]: the prompt by estimate, all of max_tokens."""
    import numpy as np

    rows: list[list[float]] = []
    prices = [registry.experts[name].price for name in experts]
    limits = [max_tokens(registry, name) for name in experts]
    for query in queries:
        tokens = estimate_tokens(query.messages)
        rows.append([p.cost_usd(tokens, limit) for p, limit in zip(prices, limits, strict=True)])
    return np.array(rows, dtype=np.float32)


def max_tokens(registry: Registry, expert: str) -> int:
    """The most tokens that an expert says unless a request limits it otherwise."""
    sampling = registry.experts[expert].sampling.to_sampling().over(DEFAULT_SAMPLING)
    return sampling.max_tokens or 0
