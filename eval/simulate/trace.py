"""Requests in the order in which they arrive: columns, read elsewhere or made from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]

Popularity = Literal["uniform", "zipf"]
Aggregation = Literal["none", "inside", "outside"]
OUTSIDER = "aggregator"
"""The expert that only aggregates."""
DRAWN_AT_ONCE = 5_000_000
"""Random numbers that are held at one time."""


@dataclass(frozen=True)
class Trace:
    """n requests; all columns are int64 [n]."""

    experts: tuple[str, ...]
    """The m experts that are asked, or may be."""
    query: Int64Array
    """Which query asks, from 0."""
    expert: Int64Array
    """Who is asked, from 0."""
    stage: Int64Array
    """From 0. A request waits for those of its query that have a lower stage."""
    prompt_tokens: Int64Array
    completion_tokens: Int64Array

    def __len__(self) -> int:
        return len(self.query)

    @property
    def n_stages(self) -> int:
        """Stages, each of which something is asked in."""
        return int(self.stage.max()) + 1


def make_trace(
    *,
    queries: int,
    experts: int,
    distinct: int,
    popularity: Popularity = "uniform",
    seed: int = 0,
    prompt_tokens: int = 200,
    completion_tokens: int = 100,
) -> Trace:
    """Queries that ask so many different experts each, drawn independently of one another.

    With `zipf` the expert of rank r is drawn with a weight of 1 / r. A query draws without
    replacement: each expert's exponential clock rings at the rate of its weight, and the first
    ones to ring are asked (Efraimidis and Spirakis, Weighted random sampling with a reservoir,
    2006).

    Raises:
        ConfigError: There are no queries or experts, or fewer experts than a query asks.
    """
    if min(queries, experts, distinct) < 1:
        raise ConfigError(
            f"an empty trace: {queries} queries x {distinct} of {experts} experts; give 1 or more "
            "of each"
        )
    if distinct > experts:
        raise ConfigError(
            f"a query cannot ask {distinct} different experts of {experts}; lower --distinct"
        )
    rng = np.random.default_rng(seed)
    weight = np.ones(experts) if popularity == "uniform" else 1 / np.arange(1.0, experts + 1)
    asked: list[Int64Array] = []
    step = max(1, DRAWN_AT_ONCE // experts)
    for first in range(0, queries, step):
        rings = rng.standard_exponential((min(step, queries - first), experts)) / weight
        soon = np.argpartition(rings, distinct - 1, axis=1)[:, :distinct]
        order = np.argsort(np.take_along_axis(rings, soon, axis=1), axis=1)
        asked.append(np.take_along_axis(soon, order, axis=1).astype(np.int64))
    n, width = queries * distinct, len(str(experts - 1))
    return Trace(
        tuple(f"expert-{number:0{width}}" for number in range(experts)),
        np.repeat(np.arange(queries, dtype=np.int64), distinct),
        np.concatenate(asked).ravel(),
        np.zeros(n, np.int64),
        np.full(n, prompt_tokens, np.int64),
        np.full(n, completion_tokens, np.int64),
    )


def add_aggregator(trace: Trace, aggregation: Aggregation) -> Trace:
    """The trace with one more request for each query, last, which waits for its others.

    It goes to the first expert of the trace (`inside`), or to one more (`outside`). It reads what
    the others wrote beside their longest prompt, and writes as much as the longest of them.
    """
    if aggregation == "none":
        return trace
    n_queries = int(trace.query.max()) + 1
    last = np.zeros(n_queries, np.int64)
    np.maximum.at(last, trace.query, np.arange(len(trace)))
    longest_prompt, longest_text, texts = (np.zeros(n_queries, np.int64) for _ in range(3))
    np.maximum.at(longest_prompt, trace.query, trace.prompt_tokens)
    np.maximum.at(longest_text, trace.query, trace.completion_tokens)
    np.add.at(texts, trace.query, trace.completion_tokens)
    is_inside = aggregation == "inside"
    added: Mapping[str, Int64Array] = {
        "query": np.arange(n_queries, dtype=np.int64),
        "expert": np.full(n_queries, 0 if is_inside else len(trace.experts), np.int64),
        "stage": np.full(n_queries, trace.n_stages, np.int64),
        "prompt_tokens": longest_prompt + texts,
        "completion_tokens": longest_text,
    }
    # Each query's goes right after its last request.
    place = np.argsort(np.concatenate([np.arange(len(trace)), last]), kind="stable")
    columns = {
        name: np.concatenate([getattr(trace, name), column])[place]
        for name, column in added.items()
    }
    experts = trace.experts if is_inside else (*trace.experts, OUTSIDER)
    return replace(trace, experts=experts, **columns)
