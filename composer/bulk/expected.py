"""What a batch's queries are known to ask before anyone has answered, added up by expert."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.bulk.lines import Batch
from composer.bulk.routing import Routes
from composer.bulk.stages import expected_load
from composer.bulk.waiting import Load
from composer.composed import answer_flow, max_tokens
from composer.errors import ComposerError
from composer.flow import FlowRun
from composer.protocols import Aggregator, Tools
from composer.tools import estimate_tokens
from composer.types import Request

CHUNK = 256
"""Queries between two moments at which a signal can end this."""


@dataclass(eq=False, slots=True)
class Tally:
    """What queries ask, added up."""

    chosen: Counter[str] = field(default_factory=Counter[str])
    """Queries that each expert is chosen for."""
    asked: dict[str, Load] = field(default_factory=dict[str, Load])
    """What each expert is asked."""
    later: set[str] = field(default_factory=set[str])
    """Experts of later rounds, as far as they are known."""
    n_refused: int = 0
    """Queries without a choice."""
    n_failed: int = 0
    """Queries that end before they ask."""

    def add(self, expert: str, load: Load) -> None:
        """An expert is asked this as well."""
        self.asked[expert] = self.asked.get(expert, Load()) + load


async def tally_first(batch: Batch, routes: Routes, tools: Tools) -> Tally:
    """Run every query's flow to its first requests, and add up what it asks.

    Of later rounds, one request a query is counted to each expert that the aggregator names, which
    reads what the first ones wrote.
    """
    aggregator, registry = routes.composed.aggregator, routes.registry
    tally = Tally()
    for row in range(len(batch)):
        if row % CHUNK == 0:
            await asyncio.sleep(0)
        query = batch.query(row)
        try:
            selection = routes.selection(row)
            if not selection.choices:
                tally.n_refused += 1
                continue
            tally.chosen.update(choice.expert for choice in selection.choices)
            run = FlowRun(answer_flow(aggregator, query, selection, tools))
            first = run.start()
        except ComposerError:
            tally.n_failed += 1
            continue
        run.close()
        written = 0
        for request in first:
            load = expected_load(registry, request)
            written += load.completion_tokens
            tally.add(request.expert, load)
        for expert in _later(aggregator, first):
            read = estimate_tokens(query.messages) + written
            tally.add(expert, Load(1, read, max_tokens(registry, expert)))
            tally.later.add(expert)
    return tally


def _later(aggregator: Aggregator, first: Sequence[Request]) -> list[str]:
    """Experts that a query will ask after its first requests; none of them if it made none."""
    asked = {request.expert for request in first}
    if not asked:
        return []
    # A cascade asks each of its stages once; who aggregates or judges may have proposed before.
    is_done = asked if isinstance(aggregator, CascadeAggregator) else set[str]()
    return sorted(aggregator.experts - is_done)
