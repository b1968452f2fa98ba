"""A composition with its parts made, and the one way in which it chooses and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from composer.choose import choose
from composer.errors import ConfigError
from composer.experts import ChooseRule, Expert, Registry
from composer.protocols import Aggregator, Flow, Router, Tools
from composer.tools import estimate_tokens
from composer.types import (
    DEFAULT_SAMPLING,
    Answer,
    Query,
    Request,
    Sampling,
    Scores,
    Selection,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from composer.allocate import BudgetKind
    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]


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


def answer_flow(
    aggregator: Aggregator, query: Query, selection: Selection, tools: Tools
) -> Flow[Answer]:
    """The aggregator's flow, drawing what becomes the answer as the query says.

    That is proposals and whatever is final, as far as the aggregator leaves it open; who judges,
    verifies or annotates is asked as ever.
    """
    flow = aggregator.combine(query, selection, tools)
    try:
        ask = next(flow)
        while True:
            requests = tuple(_drawn(request, query.sampling) for request in ask.requests)
            ask = flow.send((yield replace(ask, requests=requests)))
    except StopIteration as stop:
        return stop.value
    finally:
        flow.close()


def _drawn(request: Request, sampling: Sampling) -> Request:
    if not (request.final or request.purpose == "propose"):
        return request
    return replace(request, sampling=request.sampling.over(sampling))


def expected_cost_usd(
    registry: Registry, queries: Sequence[Query], experts: Sequence[str]
) -> Float32Array:
    """What asking each expert would cost, [n, m]; see `expected_cost`."""
    return expected_cost(registry, queries, experts, "usd").astype("float32")


def expected_cost(
    registry: Registry, queries: Sequence[Query], experts: Sequence[str], kind: BudgetKind
) -> Float64Array:
    """What one answer of each expert would take of a budget, [n, m] in its unit.

    The prompt counts by estimate, and the answer as if it became as long as it may.

    Raises:
        ConfigError: The budget counts active parameters, and an expert has none.
    """
    import numpy as np

    rows: list[list[float]] = []
    asked = [registry.experts[name] for name in experts]
    limits = [max_tokens(registry, name) for name in experts]
    for query in queries:
        prompt, told = estimate_tokens(query.messages), query.sampling.max_tokens
        longest = limits if told is None else [told] * len(asked)
        rows.append([_cost(e, kind, prompt, n) for e, n in zip(asked, longest, strict=True)])
    return np.array(rows, dtype=np.float64)


def _cost(expert: Expert, kind: BudgetKind, prompt_tokens: int, completion_tokens: int) -> float:
    match kind:
        case "usd":
            return expert.price.cost_usd(prompt_tokens, completion_tokens)
        case "tokens":
            return prompt_tokens + completion_tokens
        case "active_params_b":
            if expert.params_b is None:
                raise ConfigError(
                    f"expert {expert.name!r} has no 'params_b', by which the budget counts; add it "
                    "in experts.yaml, or give another kind of budget"
                )
            return expert.params_b


def max_tokens(registry: Registry, expert: str) -> int:
    """The most tokens that an expert says unless a request limits it otherwise."""
    sampling = registry.experts[expert].sampling.to_sampling().over(DEFAULT_SAMPLING)
    return sampling.max_tokens or 0
