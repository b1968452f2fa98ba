"""A cascade that is fitted: for a target, on recorded answers, with held-out promises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.aggregators.cascade.heldout import (
    SHARES,
    HeldOut,
    complete_rows,
    ends,
    fit_frontier,
    hold_out,
    make_votes,
    refuse_fit,
)
from composer.aggregators.cascade.learned import LearnedCascade, save_cascade
from composer.aggregators.cascade.settings import FITTED_MEASURES, CascadeSettings
from composer.outcomes import OutcomeTable
from composer.types import AnswerType

if TYPE_CHECKING:
    from composer.aggregators.cascade.search import Float64Array

KNEE = 0.95
"""Of that way: the aim where no target is given."""
Measure = Literal["share", "posterior"]


class FittedCascade(CascadeAggregator):
    """A cascade that has learned."""

    def __init__(self, learned: LearnedCascade) -> None:
        self._learned = learned
        self._use(learned.settings)

    @property
    def summary(self) -> Mapping[str, Any]:
        """See `FittedAggregator.summary`."""
        settings = self._learned.settings
        return {
            "experts": list(settings.experts or ()),
            "thresholds": list(settings.thresholds),
            "measure": settings.measure,
            **self._learned.expected,
        }

    def save(self, folder: Path) -> None:
        """See `FittedAggregator.save`."""
        save_cascade(folder, self._learned)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is wanted of a cascade: an accuracy, or else a mean cost a query."""

    accuracy: float | None
    cost_usd: float | None

    def rank(self, held: HeldOut, at: int) -> tuple[float, float]:
        """Lower is better: how much is lacking, then what is to be had beside."""
        accuracy, cost = float(held.score[at].mean()), float(held.cost_usd[at].mean())
        if self.accuracy is not None:
            return max(0.0, self.accuracy - accuracy), cost
        return max(0.0, cost - (self.cost_usd or 0.0)), -accuracy

    def check(self, held: HeldOut, at: int) -> None:
        """Refuse an aim that the best there is does not meet.

        Raises:
            ConfigError: It does not.
        """
        if self.rank(held, at)[0] <= 0:
            return
        if self.accuracy is not None:
            refuse_fit(
                f"no cascade reaches an accuracy of {self.accuracy:.4f} on held-out rows; the best "
                f"has {held.score[at].mean():.4f}: lower 'target_accuracy' or add experts"
            )
        refuse_fit(
            f"no cascade costs as little as {self.cost_usd:.3g} USD a query; the cheapest costs "
            f"{held.cost_usd[at].mean():.3g}: raise 'target_cost_usd' or add experts"
        )


def fit_cascade(
    table: OutcomeTable,
    *,
    experts: Sequence[str] | None = None,
    confidence: str = "votes",
    measure: Measure | None = None,
    target_accuracy: float | None = None,
    target_cost_usd: float | None = None,
    n_stages: int = 4,
    answer_type: AnswerType = "choice",
    n_folds: int = 5,
) -> FittedCascade:
    """Choose the experts, their order (by mean cost) and the thresholds of a cascade of votes.

    Cascades are sought for a row of accuracies (`SHARES`) on n_folds - 1 folds, and run on the
    rest; the aim that does what is wanted there is then fitted on all rows. So what is
    promised was measured on rows that neither stages, thresholds nor accuracies had seen; only the
    choice among the aims and the measures had.

    Source: Chen et al., "FrugalGPT" (arXiv 2305.05176), section 3: the list of models and the
    thresholds that are best within a budget. Deviations: the list is grown greedily (a beam) and
    the thresholds are tried on a grid of quantiles, instead of a mixed-integer program; a vote is
    the scorer; the budget is met on held-out rows, not on those fitted on.

    Args:
        table: With answers and costs; rows in which some cell is unknown are left out.
        experts: Who may be a stage; None: all.
        confidence: Only `votes` can be fitted: neither samples nor probabilities are recorded.
        measure: `share`, or `posterior`, which weighs each vote by the expert's log-odds; None:
            what costs less on held-out rows.
        target_accuracy: Reach it at the least cost.
        target_cost_usd: Mean cost a query: stay below it as accurately as possible. With neither,
            95 % of the way from the cheapest expert's accuracy to the best one's is the target.
        n_stages: At most, at least 2.
        answer_type: How answers are read at run time.
        n_folds: Of the cross-validation.

    Raises:
        ConfigError: The table cannot teach it, or the target is out of reach.
    """
    if confidence != "votes":
        refuse_fit(f"confidence {confidence!r} is not recorded; fit 'votes', or set thresholds")
    if target_accuracy is not None and target_cost_usd is not None:
        refuse_fit("'target_accuracy' and 'target_cost_usd' are two targets; leave one out")
    if n_stages < 2:
        refuse_fit(f"'n_stages' is {n_stages}; set 2 or more")
    if n_folds < 2:
        refuse_fit(f"'n_folds' is {n_folds}; set 2 or more")
    known = complete_rows(table.with_experts(experts) if experts is not None else table)
    measures = FITTED_MEASURES if measure is None else (measure,)
    tried = {each: hold_out(known, each, n_stages, n_folds) for each in measures}
    aim = _aim(known, target_accuracy, target_cost_usd)
    best, at = min(
        ((each, i) for each in measures for i in range(len(SHARES))),
        key=lambda pair: aim.rank(tried[pair[0]], pair[1]),
    )
    held = tried[best]
    aim.check(held, at)
    cascade = fit_frontier(known, best, n_stages)[at]
    votes = make_votes(known, best, known)
    columns = [*cascade.columns]
    if len(columns) < 2:
        refuse_fit(
            f"{known.names[columns[0]]!r} alone does it for the least cost; ask it alone, or set "
            "another target"
        )
    settings = CascadeSettings(
        "votes",
        best,
        cascade.thresholds,
        tuple(known.names[column] for column in columns),
        answer_type=answer_type,
        accuracies=tuple(float(votes.accuracies[column]) for column in columns),
        n_options=votes.n_options,
    )
    score, cost = known.score.mean(axis=0), votes.cost_usd.mean(axis=0)
    cheap, strong = ends(known)
    expected = {
        "n": len(known.queries),
        "target": {"accuracy": aim.accuracy, "cost_usd": aim.cost_usd},
        "accuracy": _estimate(held.score[at]),
        "cost_usd": _estimate(held.cost_usd[at]),
        "cheapest": _single(known.names[cheap], score[cheap], cost[cheap]),
        "best_single": _single(known.names[strong], score[strong], cost[strong]),
    }
    return FittedCascade(LearnedCascade(settings, expected))


def _aim(table: OutcomeTable, accuracy: float | None, cost_usd: float | None) -> Aim:
    if accuracy is None and cost_usd is None:
        score = table.score.mean(axis=0, dtype=np.float64)
        cheap, strong = ends(table)
        accuracy = float((1 - KNEE) * score[cheap] + KNEE * score[strong])
    return Aim(accuracy, cost_usd)


def _estimate(values: Float64Array) -> dict[str, Any]:
    """A mean with its 95 % interval, by the normal approximation over the rows."""
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def _single(name: str, accuracy: float, cost_usd: float) -> dict[str, Any]:
    return {"expert": name, "accuracy": float(accuracy), "cost_usd": float(cost_usd)}
