"""Votes whose outcomes are delivered one by one, and recorded ones to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from composer.flow import FlowRun, complete_answer
from composer.outcomes import Answers, OutcomeTable, RecordedExpert, RecordedQuery
from composer.outcomes.table import NOT_EXTRACTED
from composer.protocols import Aggregator
from composer.types import Query
from tests.composer.aggregators.conftest import Drive, Ran, reply


def run_one_by_one(
    aggregator: Aggregator,
    replies: Mapping[str, str],
    drive: Drive,
    *,
    query: Query | None = None,
    order: Sequence[str] | None = None,
) -> Ran:
    """Run a vote of all in the ranking; outcomes come in the order asked, or in that of experts."""
    query, selection = query or drive.query(), drive.selection(len(drive.ranking))
    run = FlowRun(aggregator.combine(query, selection, drive.tools()))
    requests = run.start()
    for request in sorted(requests, key=lambda r: order.index(r.expert)) if order else requests:
        run.deliver([reply(request, replies)])
    return Ran(
        requests, complete_answer(run.result, selection, [o for sent in run.history for o in sent])
    )


def recorded(
    rows: Sequence[tuple[str, str]],
    experts: Sequence[str] = ("ann", "ben", "cas"),
    categories: Sequence[str] | None = None,
) -> OutcomeTable:
    """Rows of what each expert said, a letter or "-", and the right letter."""
    said = [list(row) for row, _ in rows]
    values = tuple(sorted({letter for row in said for letter in row} - {"-"}))
    codes = [[values.index(a) if a != "-" else NOT_EXTRACTED for a in row] for row in said]
    return OutcomeTable(
        "recorded",
        tuple(
            RecordedQuery(f"q{i}", f"?{i}", "train", categories[i] if categories else None)
            for i in range(len(rows))
        ),
        tuple(RecordedExpert(name) for name in experts),
        np.array([[a == right for a in row] for row, right in rows], np.float32),
        answers=Answers(values, np.array(codes, np.int32)),
    )
