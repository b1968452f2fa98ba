"""RouteLLM's measures of a router between a strong and a weak expert: curve, APGR, CPT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.arrays import Float64Array, FloatArray, Int64Array, check_shapes
from eval.metrics.ties import shared_prefix


@dataclass(frozen=True, slots=True)
class StrongWeakCurve:
    """What is got for calling the strong expert more often."""

    strong_share: Float64Array
    """Share of the queries that the strong expert answers [n_bins + 1], from 0 to 1."""
    accuracy: Float64Array
    """Accuracy over all queries [n_bins + 1]: first the weak expert's, last the strong one's."""


def strong_weak_curve(
    p_strong: FloatArray, strong: FloatArray, weak: FloatArray, n_bins: int = 10
) -> StrongWeakCurve:
    """Send the queries with the highest P(strong wins) to the strong expert, more and more.

    RouteLLM cuts the predictions at their quantiles 0, 1/n_bins, ..., 1 (pandas' `qcut`, linear
    interpolation) and sends what is at or above a cut to the strong expert, nothing at the last
    one. Of n different predictions that is n - ceil((n - 1) i / n_bins) at the i-th cut, which is
    what is taken here, in integers: bins differ by at most one query where n_bins does not divide.

    Deviation: equal predictions share. Of a group that a cut goes through, each query is sent to
    the strong expert with the same probability, and the expected accuracy is taken; so the share is
    the one asked for and the order of a file decides nothing. RouteLLM sends the whole group to the
    strong expert, and fails where two cuts fall on one value.

    Source: RouteLLM (arXiv 2406.18665), routellm/evals/benchmarks.py and evaluate.py.

    Args:
        p_strong: A router's preference for the strong expert [n], in any unit.
        strong: The strong expert's scores [n].
        weak: The weak expert's scores [n].
        n_bins: Cuts less one.

    Returns:
        The curve over the queries of which all three are known; NaN where there is none.

    Raises:
        ValueError: Shapes differ, or there are no bins.
    """
    check_shapes(p_strong=p_strong, strong=strong, weak=weak)
    known = ~np.isnan(p_strong + strong + weak)
    n = int(known.sum())
    (calls,) = strong_calls(np.array([n]), n_bins)
    if not n:
        return StrongWeakCurve(np.linspace(0, 1, n_bins + 1), np.full(n_bins + 1, np.nan))
    base = weak[known].astype(np.float64)
    (gain,) = shared_prefix(p_strong[known], strong[known] - base)
    return StrongWeakCurve(calls / n, (base.sum() + gain.at(calls)) / n)


def apgr(curve: StrongWeakCurve) -> float:
    """The average performance gap recovered: the area between the weak expert and the curve.

    As a share of the area under the strong expert, by trapezoids: about .5 for a random router; 1
    for one that is as good as the strong expert from the first call on; above 1 where the pair is
    better than either. NaN where the strong expert is no better than the weak one.

    Source: RouteLLM (arXiv 2406.18665) section 2; routellm/evals/evaluate.py, which divides by a
    negative gap as well.
    """
    weak, strong = curve.accuracy[0], curve.accuracy[-1]
    if not strong > weak:
        return float("nan")
    height = (curve.accuracy[1:] + curve.accuracy[:-1]) / 2
    return float((np.sum(height * np.diff(curve.strong_share)) - weak) / (strong - weak))


def cpt(curve: StrongWeakCurve, x: float) -> float:
    """The call-performance threshold: the share of strong calls that recovers x of the gap.

    The first crossing: the smallest share at which the curve, linear between its points, reaches
    weak + x (strong - weak). RouteLLM interpolates the share over the accuracy, which is the same
    where the curve rises throughout, and undefined where it falls.

    Source: RouteLLM (arXiv 2406.18665) section 2; routellm/evals/evaluate.py.

    Args:
        curve: Of `strong_weak_curve`.
        x: Share of the gap; the paper has CPT(50 %) and CPT(80 %): 0.5 and 0.8.

    Returns:
        A share in [0, 1]; NaN where the curve never reaches it, or where there is no gap.
    """
    weak, strong = curve.accuracy[0], curve.accuracy[-1]
    target = (1 - x) * weak + x * strong
    reached = np.flatnonzero(curve.accuracy >= target)
    if not strong > weak or not reached.size:
        return float("nan")
    first = int(reached[0])
    if first == 0:
        return 0.0
    (low, high), (start, end) = (
        curve.accuracy[first - 1 : first + 1],
        curve.strong_share[first - 1 : first + 1],
    )
    return float(start + (target - low) / (high - low) * (end - start))


def strong_calls(n: Int64Array, n_bins: int) -> Int64Array:
    """How many of n queries go to the strong expert at each cut, rising [len(n), n_bins + 1].

    Raises:
        ValueError: There are no bins.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins {n_bins} must be at least 1")
    last_place = np.maximum(n - 1, 0)[:, None]
    below_cut = -(-last_place * np.arange(n_bins - 1, -1, -1) // n_bins)
    return np.concatenate([np.zeros((len(n), 1), np.int64), n[:, None] - below_cut], axis=1)
