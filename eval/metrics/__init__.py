"""Metrics of routers, as the field defines them: pure functions over arrays, and intervals.

Scores are in [0, 1], costs in USD, categories are codes 0..s-1. NaN is unknown and left out, never
0; where nothing is known the result is NaN.
"""

from eval.metrics.bootstrap import ResampledMeans, interval, resample_means
from eval.metrics.calibration import (
    CoverageCurve,
    ReliabilityBins,
    brier,
    coverage_accuracy,
    ece,
    reliability_bins,
)
from eval.metrics.quality import (
    accuracy,
    cost_per_1k,
    cost_saving,
    macro_accuracy,
    oracle_gap_closed,
    oracle_score,
    oracle_shortfall,
    performance_gain,
    regret,
    relative_gain,
)
from eval.metrics.ranking import ndcg_at_k, recall_at_k
from eval.metrics.strong_weak import StrongWeakCurve, apgr, cpt, strong_weak_curve
from eval.metrics.strong_weak_bootstrap import StrongWeakRun, bootstrap_strong_weak
from eval.metrics.tradeoff import (
    aiq,
    arena_score,
    cost_saved_at_equal_quality,
    nondecreasing_hull,
    pareto_distance,
    pareto_front,
)

__all__ = [
    "CoverageCurve",
    "ReliabilityBins",
    "ResampledMeans",
    "StrongWeakCurve",
    "StrongWeakRun",
    "accuracy",
    "aiq",
    "apgr",
    "arena_score",
    "bootstrap_strong_weak",
    "brier",
    "cost_per_1k",
    "cost_saved_at_equal_quality",
    "cost_saving",
    "coverage_accuracy",
    "cpt",
    "ece",
    "interval",
    "macro_accuracy",
    "ndcg_at_k",
    "nondecreasing_hull",
    "oracle_gap_closed",
    "oracle_score",
    "oracle_shortfall",
    "pareto_distance",
    "pareto_front",
    "performance_gain",
    "recall_at_k",
    "regret",
    "relative_gain",
    "reliability_bins",
    "resample_means",
    "strong_weak_curve",
]
