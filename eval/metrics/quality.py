"""How good the answers were, what they cost, and how near to the best that the pool could do."""

from __future__ import annotations

import numpy as np

from eval.metrics.arrays import (
    Float64Array,
    FloatArray,
    Int64Array,
    check_codes,
    check_shapes,
    known_mean,
)

_NAN = float("nan")


def accuracy(score: FloatArray) -> float:
    """The mean of the known scores; also of any other value per query. NaN where none is known."""
    return known_mean(score)


def macro_accuracy(score: FloatArray, categories: Int64Array) -> float:
    """The mean over categories of their accuracies; a category with nothing known is left out.

    Source: RouterDC's average over test sets and LLMRouterBench's AvgAcc (arXiv 2601.07206).

    Args:
        score: One method's [n].
        categories: Codes 0..s-1 [n].

    Raises:
        ValueError: Shapes differ, or categories are no codes.
    """
    check_codes(categories, len(score))
    check_shapes(score=score, categories=categories)
    known = ~np.isnan(score)
    count = np.bincount(categories[known])
    total = np.bincount(categories[known], weights=score[known])
    return known_mean(total[count > 0] / count[count > 0])


def cost_per_1k(cost_usd: FloatArray) -> float:
    """USD per 1,000 queries, from the known costs of single queries [n]."""
    return 1000 * known_mean(cost_usd)


def oracle_score(scores: FloatArray) -> Float64Array:
    """The best known score of each query [n], of scores [n, m]; NaN where none is known."""
    return np.fmax.reduce(scores, axis=1, initial=np.nan).astype(np.float64)


def regret(score: FloatArray, scores: FloatArray) -> float:
    """The mean over queries of the best known score less the one got.

    Negative where an aggregator does better than every single expert.

    Args:
        score: What a method got [n]; unknown ones are left out.
        scores: What each expert would have got [n, m].

    Raises:
        ValueError: Not as many queries in one as in the other.
    """
    best = oracle_score(scores)
    check_shapes(score=score, oracle=best)
    return known_mean(best - score)


def oracle_gap_closed(method: float, best_single: float, oracle: float) -> float:
    """The share that a method closes of the gap from the best single expert to the oracle.

    0: as good as the best single expert; 1: the oracle; negative: worse than one expert alone.
    NaN where the oracle is no better than that expert.

    Args:
        method: Accuracy.
        best_single: Accuracy of the expert chosen on train.
        oracle: Accuracy of the best expert per query.
    """
    gap = oracle - best_single
    return (method - best_single) / gap if gap > 0 else _NAN


def relative_gain(method: float, reference: float) -> float:
    """How much more accurate than a reference, as a share of it: Gain@B, Gain@R of LLMRouterBench.

    Acc / Acc_ref - 1, the reference being the best single expert (B) or a random one (R). NaN where
    the reference is 0.

    Source: LLMRouterBench (arXiv 2601.07206) section 3.2. Its repository computes it nowhere; the
    formula is as projects that report it restate it.
    """
    return method / reference - 1 if reference else _NAN


def oracle_shortfall(method: float, oracle: float) -> float:
    """How much less accurate than the oracle, as a share of it: Gap@O of LLMRouterBench.

    1 - Acc / Acc_oracle. NaN where the oracle is 0. Source: as `relative_gain`.
    """
    return 1 - method / oracle if oracle else _NAN


def performance_gain(accuracies: FloatArray, best_single: float) -> float:
    """The relative gain of a method's most accurate configuration: PerfGain of LLMRouterBench.

    Source: as `relative_gain`, section 6 of the paper: AvgAcc(best configuration) / AvgAcc(B) - 1.

    Args:
        accuracies: One for each configuration (threshold, cost weight) [c]; NaN ones are left out.
        best_single: Accuracy of the best single expert.
    """
    known = accuracies[~np.isnan(accuracies)]
    return relative_gain(float(known.max()), best_single) if known.size else _NAN


def cost_saving(
    accuracies: FloatArray, costs: FloatArray, best_single: float, best_single_cost: float
) -> float:
    """The share of the best single expert's cost that is saved at its accuracy: CostSave.

    1 - c / c_B, with c the cost of the method's cheapest configuration that is at least as
    accurate as that expert. NaN where none is, or where that expert costs nothing.

    Source: as `performance_gain`. `cost_saved_at_equal_quality` also mixes configurations.

    Args:
        accuracies: One for each configuration [c].
        costs: In the unit of `best_single_cost` [c].
        best_single: Accuracy of the best single expert.
        best_single_cost: Its cost.

    Raises:
        ValueError: Shapes differ.
    """
    check_shapes(accuracies=accuracies, costs=costs)
    reaching = costs[(accuracies >= best_single) & ~np.isnan(costs)]
    if not reaching.size or best_single_cost <= 0:
        return _NAN
    return 1 - float(reaching.min()) / best_single_cost
