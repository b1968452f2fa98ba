"""Routers, alone or with an aggregator, judged on recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from composer.aggregators import make_aggregator
from composer.choose import choose
from composer.experts import ChooseRule
from composer.outcomes import OutcomeTable
from composer.protocols import FittedRouter
from composer.types import Query
from eval.replay.aggregators import MakeAggregator
from eval.replay.judged import Decision, Judged
from eval.replay.parts import Round
from eval.replay.recorded_flow import replay_flow


@dataclass(frozen=True, slots=True)
class Composition:
    """What a method's name says: a router, how many experts are asked, and an aggregator."""

    method: str
    fit_router: Callable[[OutcomeTable], FittedRouter]
    """A router that has learned from the table."""
    k: int = 1
    aggregator: str = "best"
    """A name in `composer.aggregators.AGGREGATORS`."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The aggregator's."""
    make_aggregator: MakeAggregator | None = None
    """Makes it of the rows it may learn from; None: of its settings alone."""

    @property
    def reads_answers(self) -> bool:
        """Whether it looks at what experts say, so that answers must be recorded."""
        return self.aggregator != "best"


def judge(
    composition: Composition,
    each: Round,
    *,
    known_category: bool,
    on_row: Callable[[], None] = lambda: None,
) -> Judged:
    """Fit on the round's train rows, and decide and score each judged row.

    Args:
        composition: The method.
        each: What to fit on and what to judge.
        known_category: Tell router and aggregator the queries' categories.
        on_row: Called after each row.

    Raises:
        ComposerError: The router cannot be fitted, or does not score these queries.
    """
    table = each.judged
    router = composition.fit_router(each.train)
    queries = table.to_queries(with_category=known_category)
    scores = router.score(queries, [query.annotation for query in table.queries])
    k = min(composition.k, len(table.names))
    rule = ChooseRule(k=k)
    selections = choose(scores, [query.id for query in queries], rule, router=router.name)
    if composition.make_aggregator is None:
        aggregator = make_aggregator(composition.aggregator, composition.settings)
    else:
        aggregator = composition.make_aggregator(each.train)
    decisions: list[Decision] = []
    for row, (query, selection) in enumerate(zip(queries, selections, strict=True)):
        if not selection.choices:
            decisions.append(_refused(query, table))
            on_row()
            continue
        decision = replay_flow(
            aggregator, query, selection, table, row, reads_answers=composition.reads_answers
        )
        predicted = selection.choices[0].quality if composition.aggregator == "best" else None
        if predicted is not None:
            decision = replace(decision, predicted=predicted)
        decisions.append(decision)
        on_row()
    settings, quality = dict(router.settings), None
    if composition.reads_answers:
        own = {"k": k, **composition.settings}
        settings = {"router": settings, **own} if settings else own
    else:
        quality = scores.quality[:, [scores.experts.index(name) for name in table.names]]
    return Judged(composition.method, tuple(decisions), settings, quality)


def _refused(query: Query, table: OutcomeTable) -> Decision:
    """Of a query that no expert was chosen for."""
    cost = float("nan") if table.cost_usd is None else 0.0
    return Decision(query.id, None, (), 0.0, cost, failed=True)


def has_answers(table: OutcomeTable) -> bool:
    """Whether anything is recorded of what experts said."""
    return table.answers is not None or table.texts is not None
