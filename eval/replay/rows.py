"""Decisions -> the rows of a report: every number with n and an interval, all on one ladder.

All intervals of a part come from the same 10,000 resamples of its queries, stratified by category,
so the difference of a method to the best single expert is paired, query by query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from composer.outcomes import OutcomeTable
from eval.metrics import (
    ResampledMeans,
    accuracy,
    brier,
    cost_per_1k,
    ece,
    interval,
    macro_accuracy,
    ndcg_at_k,
    oracle_gap_closed,
    recall_at_k,
    regret,
    resample_means,
)
from eval.replay.judged import Judged
from eval.replay.parts import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

Interval = tuple[float, float]
N_RESAMPLES = 10_000
MOST_ALONE = 0.1
"""Share of queries that may be the only one of their category: resampling within it, such a query
is always drawn, so with more of them intervals would look narrow and are not given."""
RANKED = 3
"""How many experts nDCG and recall look at."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one part. Accuracies are means of scores in [0, 1]."""

    method: str
    split: str
    n: int
    """Queries whose score is known."""
    n_unknown: int
    """Queries on which the method asked what is not recorded: in no figure."""
    n_failed: int
    """Queries that it did not answer: wrong."""
    accuracy: float
    ci95: Interval
    macro_accuracy: float
    """Mean over categories."""
    macro_ci95: Interval
    delta_best_single: float
    """Accuracy minus that of the best single expert chosen on train."""
    delta_ci95: Interval
    macro_delta_best_single: float
    macro_delta_ci95: Interval
    cost_usd_per_1k: float
    oracle_gap_closed: float
    """(accuracy - best single) / (oracle - best single)."""
    asked_per_query: float
    """Experts asked."""
    category: str
    """Whether the method is told the query's category: `hidden` or `known`."""
    settings: Mapping[str, Any]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """regret; of routers also ece and brier of the chosen expert's predicted quality, and
    ndcg_at_3 and recall_at_3 of the ranking of the experts."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is unknown is null."""
        row = asdict(self)
        row |= row.pop("figures")
        return {key: _plain(value) for key, value in row.items()}


def make_rows(
    part: Part,
    judged: Sequence[Judged],
    told: Mapping[str, bool],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> list[Row]:
    """The rows of a part, one a method.

    Args:
        part: What was judged.
        judged: The methods' decisions; `best-single` and `oracle` are among them.
        told: Whether each method is told the categories, by name.
        seed: Of the resampling.
        n_resamples: B.
    """
    table = part.judged
    names = [each.method for each in judged]
    best, top = names.index("best-single"), names.index("oracle")
    scores = np.stack([each.score for each in judged], axis=1)
    # A difference is taken over the queries that both methods' scores are known for.
    deltas = scores - scores[:, best : best + 1]
    resampled = resample_means(
        np.concatenate([scores, deltas], axis=1), table.category_codes, n_resamples, seed
    )
    micro_low, micro_high = interval(resampled.micro())
    macro_low, macro_high = interval(resampled.macro())
    if not has_intervals(resampled):
        for ends in (micro_low, micro_high, macro_low, macro_high):
            ends[:] = np.nan
    rows: list[Row] = []
    for column, each in enumerate(judged):
        score, delta = scores[:, column], deltas[:, column]
        paired = len(judged) + column
        known = ~np.isnan(score)
        # The gap is closed on the queries where all three are known.
        shared = known & ~np.isnan(scores[:, best]) & ~np.isnan(scores[:, top])
        means = [float(accuracy(scores[shared, c])) for c in (column, best, top)]
        rows.append(
            Row(
                each.method,
                part.name,
                int(known.sum()),
                int((~known).sum()),
                sum(decision.failed for decision in each.decisions),
                accuracy(score),
                (float(micro_low[column]), float(micro_high[column])),
                macro_accuracy(score, table.category_codes),
                (float(macro_low[column]), float(macro_high[column])),
                accuracy(delta),
                (float(micro_low[paired]), float(micro_high[paired])),
                macro_accuracy(delta, table.category_codes),
                (float(macro_low[paired]), float(macro_high[paired])),
                cost_per_1k(each.cost_usd),
                oracle_gap_closed(*means),
                float(np.mean([len(d.asked) or 1 for d in each.decisions])),
                "known" if told[each.method] else "hidden",
                each.settings,
                _figures(each, score, table),
            )
        )
    return rows


def has_intervals(resampled: ResampledMeans) -> bool:
    """Whether intervals of resampled means are given: see `MOST_ALONE`."""
    return bool(np.sum(resampled.sizes == 1) <= MOST_ALONE * np.sum(resampled.sizes))


def _figures(judged: Judged, score: Float64Array, table: OutcomeTable) -> dict[str, float]:
    figures = {"regret": regret(score, table.score)}
    predicted = np.array([decision.predicted for decision in judged.decisions])
    if judged.quality is not None:
        figures |= {
            "ece": ece(predicted, score),
            "brier": brier(predicted, score),
            f"ndcg_at_{RANKED}": accuracy(ndcg_at_k(judged.quality, table.score, RANKED)),
            f"recall_at_{RANKED}": accuracy(recall_at_k(judged.quality, table.score, RANKED)),
        }
    return figures


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {str(key): _plain(each) for key, each in items}
    return value
