"""The first choice answers; whoever fails is followed by the next of the ranking."""

from __future__ import annotations

from collections.abc import Mapping

from composer.experts import Expert
from composer.flow import ask_ranked
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Query, Request, Selection


class BestAggregator:
    """Takes the answer of the best expert that gives one."""

    name = "best"
    needs: frozenset[AggregatorNeed] = frozenset()
    experts: frozenset[str] = frozenset()

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: there is nothing to refuse."""

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""

        def request(expert: str) -> Request:
            return Request(f"{query.id}/propose/{expert}", expert, query.messages, final=True)

        completion, failures = yield from ask_ranked(selection, request, tools)
        reason = "the first choice answered"
        if failures:
            reason = f"answered after {', '.join(f.expert for f in failures)} failed"
        return Answer(
            query_id=query.id,
            text=completion.text,
            expert=completion.expert,
            aggregator=self.name,
            finish_reason=completion.samples[0].finish_reason,
            reason=reason,
            failures=failures,
        )
