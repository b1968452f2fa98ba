"""What the members of a combination are worth: non-negative least squares on their advantages.

Few queries tell members apart badly, so the weights are shrunk towards equal ones: ridge regression
(Hoerl and Kennard 1970, Technometrics 12(1)) about the equal weights that fit best, as strongly as
200 queries would hold them there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from routers.calibration import logit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]

PRIOR_QUERIES = 200
"""How many queries the equal weights count for."""
_LEAST = 1e-9
_EDGE = 0.1


def nonnegative_weights(
    qualities: Float64Array, score: Float32Array, row_weights: Float64Array
) -> Float64Array:
    """Weights [K] >= 0 of the members whose advantages come nearest to the recorded ones.

    Args:
        qualities: What K members predict, [K, n, m], finite.
        score: What was recorded, [n, m]; NaN: unknown.
        row_weights: Each row's weight [n].

    Returns:
        The weights; equal ones with the sum 1 where there is nothing to learn from.
    """
    from scipy.optimize import nnls  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    n_members = len(qualities)
    equal = np.full(n_members, 1 / n_members)
    is_known = ~np.isnan(score)
    n_known = np.maximum(is_known.sum(axis=1, keepdims=True), 1)
    scale = np.sqrt(row_weights[:, None] / n_known)

    def advantage(values: Float64Array) -> Float64Array:
        mean = np.where(is_known, values, 0).sum(axis=1, keepdims=True) / n_known
        return (np.where(is_known, values - mean, 0) * scale).ravel()

    told = advantage(np.nan_to_num(score).astype(np.float64))
    predicted = np.stack([advantage(quality) for quality in qualities])
    gram, moment = predicted @ predicted.T, predicted @ told
    ridge = float(np.trace(gram)) / n_members * PRIOR_QUERIES / max(len(score), 1)
    about = np.full(n_members, max(moment.sum(), 0) / max(gram.sum(), _LEAST))
    lower = np.linalg.cholesky(gram + (ridge + _LEAST) * np.eye(n_members))
    target = np.linalg.solve(lower, moment + ridge * about)
    weights: Float64Array = cast("Any", nnls)(lower.T, target)[0]
    return weights if weights.sum() > 0 else equal


def combine(qualities: Float64Array, weights: Float64Array) -> Float32Array:
    """The logits [n, m] of the mean level plus the weighted advantages.

    Args:
        qualities: What K members predict, [K, n, m]; NaN: all of them know nothing.
        weights: [K].
    """
    is_known = ~np.isnan(qualities)
    n_known = np.maximum(is_known.sum(axis=2, keepdims=True), 1)
    means = np.where(is_known, qualities, 0).sum(axis=2, keepdims=True) / n_known
    combined = means.mean(axis=0) + np.einsum("k,knm->nm", weights, qualities - means)
    # Beyond the edges it goes on straight: experts there must not tie.
    inside: Float64Array = np.minimum(np.maximum(combined, _EDGE), 1 - _EDGE)
    slope = 1 / (_EDGE * (1 - _EDGE))
    raw: Float64Array = logit(inside) + slope * (combined - inside)
    return raw.astype(np.float32)


def fill(qualities: Float64Array) -> Float64Array:
    """Predictions [K, n, m] where an unknown one is the mean of the other members'."""
    is_known = ~np.isnan(qualities)
    n_known = is_known.sum(axis=0)
    sums = np.where(is_known, qualities, 0).sum(axis=0)
    unknown = np.full_like(sums, np.nan)
    mean = np.divide(sums, n_known, out=unknown, where=n_known > 0)
    return np.where(is_known, qualities, mean)
