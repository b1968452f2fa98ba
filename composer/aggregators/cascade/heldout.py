"""The cascades of a table for a row of accuracies, and what they do on rows held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from composer.aggregators.cascade.search import (
    Cascade,
    Votes,
    count_right,
    frontier,
    run_cascade,
    stage_votes,
)
from composer.errors import ConfigError
from composer.outcomes import NOT_RECORDED, OutcomeTable

if TYPE_CHECKING:
    from composer.aggregators.cascade.search import Float64Array

SHARES = tuple(round(0.025 * i, 3) for i in range(49))
"""Accuracies that cascades are sought for: these shares of the way from the cheapest expert's to
the most accurate one's. Votes can be better than that, so they go on to 1.2."""
LEAST_ROWS = 50
MOST_OPTIONS = 26
"""Answers of a type without end (numbers, texts) count as so many: wrong ones do coincide."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What cascades do on rows that took no part in their fit, by share of the way."""

    score: Float64Array
    """[SHARES, n]."""
    cost_usd: Float64Array
    """[SHARES, n]."""


def fit_frontier(table: OutcomeTable, measure: str, n_stages: int) -> list[Cascade]:
    """The cheapest cascade for each of `SHARES`, fitted on all rows of a complete table."""
    score = table.score.mean(axis=0, dtype=np.float64)
    cheap, strong = ends(table)
    targets = [float(score[cheap] + share * (score[strong] - score[cheap])) for share in SHARES]
    return frontier(make_votes(table, measure, table), targets, n_stages)


def hold_out(table: OutcomeTable, measure: str, n_stages: int, n_folds: int) -> HeldOut:
    """What a cascade for each of `SHARES` does on each fold, fitted on the others."""
    folds = table.folds(n_folds)
    shape = (len(SHARES), len(table.queries))
    held = HeldOut(np.zeros(shape), np.zeros(shape))
    for fold in np.unique(folds):
        train, rest = table.rows(folds != fold), folds == fold
        votes = make_votes(table.rows(rest), measure, train)
        for at, cascade in enumerate(fit_frontier(train, measure, n_stages)):
            stages = stage_votes(votes, cascade.columns)
            held.score[at, rest], held.cost_usd[at, rest], _ = run_cascade(
                stages, cascade.thresholds
            )
    return held


def complete_rows(table: OutcomeTable) -> OutcomeTable:
    """The rows of which each expert's score, answer and cost are known.

    Raises:
        ConfigError: They are too few to learn from, or there are fewer than two experts.
    """
    if table.answers is None or table.cost_usd is None:
        lack = "answers" if table.answers is None else "costs"
        refuse_fit(f"{table.name}: no {lack} are recorded; record them, or set thresholds")
    if len(table.names) < 2:
        refuse_fit(f"{table.name}: {list(table.names)} is one expert; give two or more")
    is_known = ~np.isnan(table.score) & ~np.isnan(table.cost_usd)
    known = table.rows((is_known & (table.answers.codes != NOT_RECORDED)).all(axis=1))
    if len(known.queries) < LEAST_ROWS:
        refuse_fit(
            f"{table.name}: {len(known.queries)} queries have every expert's score, answer and "
            f"cost, and fewer than {LEAST_ROWS} teach nothing; record more, or name 'experts'"
        )
    return known


def make_votes(table: OutcomeTable, measure: str, train: OutcomeTable) -> Votes:
    """The answers of a complete table, weighed as on `train`."""
    assert table.answers is not None, "a complete table has answers"
    assert table.cost_usd is not None, "a complete table has costs"
    return Votes(
        table.answers.codes,
        table.score.astype(np.float64),
        table.cost_usd.astype(np.float64),
        count_right(train),
        min(MOST_OPTIONS, max(2, len(table.answers.values))),
        measure,
    )


def ends(table: OutcomeTable) -> tuple[int, int]:
    """The columns of the cheapest expert and of the most accurate one."""
    assert table.cost_usd is not None, "a complete table has costs"
    cost, score = (cells.mean(axis=0, dtype=np.float64) for cells in (table.cost_usd, table.score))
    return int(np.argmin(cost)), int(np.argmax(score))


def refuse_fit(what: str) -> NoReturn:
    """Raise why a cascade cannot be fitted.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(f"aggregator 'cascade' cannot be fitted: {what}")
