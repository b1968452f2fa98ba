"""The error that settings are chosen by: of the predicted advantage of experts over one another.

An expert's advantage is its score minus the mean of the query's known scores. It decides whom to
choose, and how hard a query is does not; unlike the accuracy of the choice, its error hears of all
experts on all queries, so that it says the same on other folds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array


def advantage_errors(predicted: Float32Array, targets: Float32Array) -> NDArray[np.float64]:
    """Each query's mean squared error of the advantage [n]; NaN: nothing is known of it."""
    error = predicted.astype(np.float64) - targets
    known = ~np.isnan(error)
    n_known = known.sum(axis=1)
    n_safe = np.maximum(n_known, 1)
    mean = np.where(known, error, 0).sum(axis=1) / n_safe
    squares = np.where(known, error - mean[:, None], 0) ** 2
    return np.where(n_known > 0, squares.sum(axis=1) / n_safe, np.nan)


def macro_mean(errors: NDArray[np.float64], categories: NDArray[np.int64]) -> float:
    """The mean over categories of the mean error of each; 0 where no error is known.

    Args:
        errors: [n]; NaN: unknown.
        categories: Each query's category [n], by number.
    """
    means = [
        float(of_category[~np.isnan(of_category)].mean())
        for category in np.unique(categories)
        if (~np.isnan(of_category := errors[categories == category])).any()
    ]
    return float(np.mean(means)) if means else 0.0
