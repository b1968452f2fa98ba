"""The queries on which a method lost most to the expert that it should have asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics import oracle_score
from eval.metrics.arrays import Float64Array
from eval.replay.judged import Decision
from eval.report.load import JudgedPart


@dataclass(frozen=True, slots=True)
class WorstQuery:
    """One query that a method got wrong and an expert right."""

    decision: Decision
    prompt: str
    category: str | None
    regret: float
    """The best known score less the method's."""
    scores: tuple[tuple[float, tuple[str, ...]], ...]
    """The experts by what they scored, best first; those whose score is unknown are left out."""


def regrets(part: JudgedPart, method: str) -> Float64Array:
    """The best known score of each query less the method's [n]; 0 where its own is unknown."""
    return np.nan_to_num(oracle_score(part.table.score) - part.judged[method].score)


def worst_queries(part: JudgedPart, method: str, n: int) -> tuple[WorstQuery, ...]:
    """The n queries of the highest regret above 0.

    Of equal ones those come first on which the router was surest of its choice, then those on which
    more experts would have done better, then the first.

    Args:
        part: What was judged.
        method: One of its methods.
        n: At most so many.
    """
    decisions = part.judged[method].decisions
    score = part.judged[method].score
    regret = regrets(part, method)
    sureness = np.nan_to_num(np.array([decision.predicted for decision in decisions]))
    n_better = (part.table.score > score[:, None]).sum(axis=1)
    order = np.lexsort((-n_better, -sureness, -regret))
    worst = [int(row) for row in order[:n] if regret[row] > 0]
    return tuple(_worst_query(part, decisions[row], row, float(regret[row])) for row in worst)


def _worst_query(part: JudgedPart, decision: Decision, row: int, regret: float) -> WorstQuery:
    query, scores = part.table.queries[row], part.table.score[row]
    levels = sorted({float(score) for score in scores if not np.isnan(score)}, reverse=True)
    experts = tuple(
        (level, tuple(name for name, s in zip(part.table.names, scores, strict=True) if s == level))
        for level in levels
    )
    return WorstQuery(decision, query.prompt, query.category, regret, experts)
