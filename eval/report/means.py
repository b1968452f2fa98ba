"""Means with intervals of what rows.json has none of: categories, and single experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eval.metrics import accuracy, cost_per_1k, interval, resample_means
from eval.metrics.arrays import Float64Array, Int64Array
from eval.replay.rows import N_RESAMPLES, has_intervals
from eval.report.load import JudgedPart


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of scores and how sure it is."""

    n: int
    """Known scores; 0: mean and interval are NaN."""
    value: float
    low: float
    high: float
    """The ends of the 95 % interval; NaN where too few queries tell of it."""


@dataclass(frozen=True, slots=True)
class ExpertMean:
    """What one expert would have got, asked everything."""

    name: str
    score: Mean
    cost_usd_per_1k: float


@dataclass(frozen=True, slots=True)
class PartMeans:
    """The means of a part beyond its rows."""

    experts: tuple[ExpertMean, ...]
    by_category: dict[str, tuple[Mean, ...]]
    """By method: one mean for each category of the part's table."""


def part_means(
    part: JudgedPart, *, seed: int, on_column: Callable[[], None] = lambda: None
) -> PartMeans:
    """The means of single experts, and of methods in each category.

    Args:
        part: What was judged.
        seed: Of the resampling.
        on_column: Called after each expert and each method.
    """
    table = part.table
    codes = table.category_codes
    members = [codes == code for code in range(len(table.categories))]
    by_category: dict[str, tuple[Mean, ...]] = {}
    for row in part.rows:
        score = part.judged[row.method].score
        by_category[row.method] = tuple(_mean(score[rows], None, seed) for rows in members)
        on_column()
    experts: list[ExpertMean] = []
    for column, name in enumerate(table.names):
        score = table.score[:, column].astype(np.float64)
        cost = np.nan if table.cost_usd is None else cost_per_1k(table.cost_usd[:, column])
        experts.append(ExpertMean(name, _mean(score, codes, seed), cost))
        on_column()
    return PartMeans(tuple(experts), by_category)


def _mean(score: Float64Array, strata: Int64Array | None, seed: int) -> Mean:
    # Alone a column has few distinct values, which makes this quick; and nothing is compared.
    resampled = resample_means(score[:, None], strata, N_RESAMPLES, seed)
    low, high = map(float, interval(resampled.micro()[:, 0]))
    if not has_intervals(resampled):
        low = high = np.nan
    return Mean(int(np.count_nonzero(~np.isnan(score))), accuracy(score), low, high)
