"""Whether predicted qualities can be believed: ECE, Brier score, reliability, coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.arrays import Float64Array, FloatArray, check_shapes, known_mean, ratio
from eval.metrics.ties import shared_prefix


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Predicted against observed quality, by bins of rising prediction: the reliability diagram."""

    mean_predicted: Float64Array
    """[b]; NaN where the bin is empty."""
    mean_score: Float64Array
    """[b]; NaN where the bin is empty."""
    count: Float64Array
    """Predictions in each bin [b]; bins of equal mass may hold parts of them."""


@dataclass(frozen=True, slots=True)
class CoverageCurve:
    """Accuracy when only the queries with the highest confidence are answered."""

    coverage: Float64Array
    """Share of the queries that are answered [n]: 1/n, 2/n, ..., 1."""
    accuracy: Float64Array
    """Of those that are [n]."""

    @property
    def area(self) -> float:
        """The mean accuracy over all coverages; NaN without queries."""
        return known_mean(self.accuracy)


def reliability_bins(
    predicted: FloatArray, score: FloatArray, n_bins: int = 15, *, equal_mass: bool = False
) -> ReliabilityBins:
    """Sort predictions into bins and average both sides.

    Bins of equal width are (0, 1/b], (1/b, 2/b], ..., with 0 in the first; predictions outside
    [0, 1] fall into the first or the last one. Bins of equal mass hold n / b predictions each:
    equal predictions share, so that a bin's edge splits a group of them in proportion (where others
    split it in the order of the file).

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, section 2.

    Args:
        predicted: In [0, 1], of any shape.
        score: In [0, 1], of the same shape; pairs with something unknown are left out.
        n_bins: b.
        equal_mass: Bins of equal mass instead of equal width.

    Raises:
        ValueError: Shapes differ, or there are no bins.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins {n_bins} must be at least 1")
    x, y = _known_pairs(predicted, score)
    if equal_mass and x.size:
        edges = np.arange(n_bins + 1) * (x.size / n_bins)
        total_x, total_y = (np.diff(total.at(edges)) for total in shared_prefix(-x, x, y))
        count = np.diff(edges)
    else:
        inner = np.arange(1, n_bins) / n_bins
        place = np.searchsorted(inner, x)
        count, total_x, total_y = (
            np.bincount(place, weights, n_bins).astype(np.float64) for weights in (None, x, y)
        )
    return ReliabilityBins(ratio(total_x, count), ratio(total_y, count), count)


def ece(
    predicted: FloatArray, score: FloatArray, n_bins: int = 15, *, equal_mass: bool = False
) -> float:
    """The expected calibration error: how far predicted and observed quality are apart in a bin.

    The mean of |mean predicted - mean score| over the bins, weighted by their counts. Graded scores
    are observed qualities like right and wrong ones. NaN where nothing is known.

    Source: and arguments: as `reliability_bins`.

    Raises:
        ValueError: Shapes differ, or there are no bins.
    """
    bins = reliability_bins(predicted, score, n_bins, equal_mass=equal_mass)
    n = bins.count.sum()
    gap = np.abs(bins.mean_predicted - bins.mean_score)
    return float(np.nansum(gap * bins.count) / n) if n else float("nan")


def brier(predicted: FloatArray, score: FloatArray) -> float:
    """The mean squared difference of predicted quality and score; NaN where nothing is known.

    Source: Brier, Verification of forecasts expressed in terms of probability, 1950, for one
    outcome; with graded scores it is the mean squared error.

    Args:
        predicted: In [0, 1], of any shape.
        score: In [0, 1], of the same shape; pairs with something unknown are left out.

    Raises:
        ValueError: Shapes differ.
    """
    x, y = _known_pairs(predicted, score)
    return known_mean((x - y) ** 2)


def coverage_accuracy(confidence: FloatArray, score: FloatArray) -> CoverageCurve:
    """Accuracy of the i most confident answers, for every i.

    Equal confidences share: of a group that is answered in part, each query is as likely to be, and
    the expected accuracy is taken.

    Source: Geifman and El-Yaniv, Selective classification for deep neural networks, NeurIPS 2017;
    the area is 1 - AURC.

    Args:
        confidence: In any unit, of any shape.
        score: In [0, 1], of the same shape; pairs with something unknown are left out.

    Raises:
        ValueError: Shapes differ.
    """
    x, y = _known_pairs(confidence, score)
    if not x.size:
        return CoverageCurve(np.empty(0), np.empty(0))
    answered = np.arange(1, x.size + 1)
    (right,) = shared_prefix(x, y)
    return CoverageCurve(answered / x.size, right.at(answered) / answered)


def _known_pairs(first: FloatArray, second: FloatArray) -> tuple[Float64Array, Float64Array]:
    check_shapes(predicted=first, score=second)
    known = ~(np.isnan(first) | np.isnan(second))
    return first[known].astype(np.float64), second[known].astype(np.float64)
