"""An aggregator's flow driven on one recorded query: every answer is what the record says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer.errors import AggregationError
from composer.flow import FlowRun
from composer.outcomes import NOT_EXTRACTED, NOT_RECORDED, OutcomeTable
from composer.protocols import Aggregator
from composer.tools import estimate_tokens
from composer.types import (
    Answer,
    Completion,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
    Selection,
)
from eval.replay.judged import Decision


class RecordTools:
    """`Tools` of recorded experts: token counts are estimates, contexts unknown."""

    def count(self, expert: str, messages: Sequence[Message]) -> int:
        """See `Tools.count`."""
        return estimate_tokens(messages)

    def limit(self, expert: str) -> int | None:
        """See `Tools.limit`."""
        return None


TOOLS = RecordTools()


def replay_flow(
    aggregator: Aggregator,
    query: Query,
    selection: Selection,
    table: OutcomeTable,
    row: int,
    *,
    reads_answers: bool,
) -> Decision:
    """What an aggregator makes of a recorded query, and what that scored.

    The answer's score is the recorded one of the expert whose answer it is. Where the flow asks
    what is not recorded, a score included, the decision's score is unknown. Where it ends without
    an answer the score is 0.

    Args:
        aggregator: One that only asks experts to propose, once each. Of those that it asks at once
            and waits for any of, only the outcomes that it needed are asked for.
        query: The query that the row records.
        selection: The experts to ask.
        table: The record.
        row: The query's.
        reads_answers: It looks at what experts say, so that an unrecorded answer is unknown;
            otherwise the score is enough.
    """
    run: FlowRun[Answer] = FlowRun(aggregator.combine(query, selection, TOOLS))
    asked: list[str] = []
    unknown = False
    expert: str | None = None
    try:
        run.start()
        while not run.is_done:
            # One at a time in the order asked: a flow that waits for any may do without the rest.
            request = run.waiting[0]
            outcome = _recorded(request, table, row, reads_answers=reads_answers)
            asked.append(request.expert)
            unknown = unknown or isinstance(outcome, Failure)
            run.deliver([outcome])
        expert = run.result.expert
    except AggregationError:
        pass
    cells = [table.names.index(name) for name in asked]
    cost = sum(float(table.cost_usd[row, c]) for c in cells) if table.cost_usd is not None else None
    score = 0.0 if expert is None else float(table.score[row, table.names.index(expert)])
    return Decision(
        query.id,
        expert,
        tuple(asked),
        float("nan") if unknown else score,
        float("nan") if cost is None else cost,
        failed=expert is None and not unknown,
    )


def _recorded(request: Request, table: OutcomeTable, row: int, *, reads_answers: bool) -> Outcome:
    """What the record says to a request; a failure where it says nothing."""
    column = table.names.index(request.expert)
    text = None if table.texts is None else table.texts[row, column]
    code = NOT_RECORDED if table.answers is None else int(table.answers.codes[row, column])
    is_silent = reads_answers and text is None and code == NOT_RECORDED
    if is_silent or np.isnan(table.score[row, column]):
        return Failure(request.id, request.expert, "refused", "not recorded")
    answer = None if table.answers is None else table.answers.value(row, column)
    if text is None or code == NOT_EXTRACTED:
        # That a text held no answer is recorded, and is not to be looked for in it again.
        text = answer or ""
    return Completion(
        request.id, request.expert, (Sample(text, "stop", 0, answer=answer),), prompt_tokens=0
    )
