"""Raw scores -> probabilities: one logistic curve for all experts, fitted to held-out scores.

    logit(quality_ij) = scale * raw_ij + offset_j

One scale keeps the order of the raw scores within an expert. The offsets are one for all where raw
scores compare experts already, so that calibration changes nothing of whom a router prefers; and
one an expert where they do not: a cosine does not know how good an expert is overall. `isotonic`
bends the curve further, to whatever rises.

Sources: Platt 1999, "Probabilistic outputs for support vector machines"; isotonic calibration is
that of Zadrozny and Elkan 2002, by scikit-learn.

Deviations:
- Targets are fractions where scores are; the loss is the cross-entropy with them.
- Platt's targets are smoothed; here scale and offsets have Gaussian priors instead, so that few
  rows cannot make a certainty.
- Isotonic regression makes steps, on which experts would tie: a thousandth of the logistic curve
  stays in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]

CalibrationKind = Literal["platt", "isotonic"]
PRIOR_SCALE, PRIOR_COMMON, PRIOR_OFFSET = 10.0, 3.0, 1.0
"""Standard deviations of the priors, in logits: of the curve over one deviation of the raw scores,
of the offset of all experts, and of an expert's own beside it."""
_EDGE = 1e-3
"""Qualities are kept so far from 0 and 1."""
_STRICT = 1e-3
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class Calibration:
    """Turns raw scores of m experts into probabilities of success."""

    scale: float
    """At least 0."""
    offsets: Float64Array
    """[m]."""
    knots: Float64Array | None = None
    """[2, s]: where the steps of an isotonic curve begin, and how high; None: there is none."""

    def quality(self, raw: Float32Array) -> Float32Array:
        """Probabilities [n, m] of raw scores [n, m]; NaN: unknown."""
        p: Float64Array = sigmoid(self.scale * raw.astype(np.float64) + self.offsets)
        if self.knots is not None:
            steps = cast("Float64Array", np.interp(p, self.knots[0], self.knots[1]))
            p = (1 - _STRICT) * np.clip(steps, _EDGE, 1 - _EDGE) + _STRICT * p
        return np.clip(p, _EDGE, 1 - _EDGE).astype(np.float32)

    def without(self, column: int) -> Calibration:
        """The calibration without an expert."""
        return replace(self, offsets=np.delete(self.offsets, column))


def calibrate(
    raw: Float32Array,
    score: Float32Array,
    kind: CalibrationKind = "platt",
    *,
    own_offsets: bool = True,
) -> Calibration:
    """Fit a calibration.

    Args:
        raw: Raw scores [n, m] of rows that the model has not seen; NaN: unknown.
        score: What was recorded, [n, m] in [0, 1]; NaN: unknown.
        kind: Of the curve.
        own_offsets: Give each expert an offset of its own.

    Returns:
        The calibration; where nothing is known of raw scores, one that gives each expert's mean.
    """
    from scipy.optimize import minimize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    m = score.shape[1]
    rows, columns = np.nonzero(~np.isnan(score) & ~np.isnan(raw))
    target = score[rows, columns].astype(np.float64)
    if not len(target):
        known = ~np.isnan(score)
        means = (np.nansum(score, axis=0) + 0.5) / (known.sum(axis=0) + 1)
        return Calibration(0.0, logit(means))
    x = raw[rows, columns].astype(np.float64)
    centre, spread = float(x.mean()), float(x.std())
    if spread <= _LEAST_SPREAD * max(1.0, abs(centre)):
        # All alike but for rounding, so that nothing tells how steep the curve is.
        x, centre, spread = np.zeros_like(x), 0.0, 1.0
    z = (x - centre) / spread

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        slope, common, own = parameters[0], parameters[1], parameters[2:]
        t = slope * z + common + own[columns]
        error = sigmoid(t) - target
        value = float(np.sum(np.logaddexp(0, t) - target * t))
        value += 0.5 * float(np.sum((parameters / deviations) ** 2))
        of_own = np.bincount(columns, error, m) * own_offsets
        gradient = np.concatenate([[error @ z, error.sum()], of_own]) + parameters / deviations**2
        return value / len(z), gradient / len(z)

    deviations = np.array([PRIOR_SCALE, PRIOR_COMMON, *[PRIOR_OFFSET] * m])
    start = np.zeros(m + 2)
    start[:2] = float(z.any()), float(logit(np.clip(target.mean(), 0.01, 0.99)))
    bounds = [(0.0, None), (-20.0, 20.0), *[(-20.0, 20.0)] * m]
    found: Any = cast("Any", minimize)(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    slope = float(found.x[0]) / spread
    calibration = Calibration(slope, found.x[1] + found.x[2:] - slope * centre)
    if kind == "isotonic":
        p = calibration.quality(raw)[rows, columns]
        calibration = replace(calibration, knots=_isotonic(p, target))
    return calibration


def sigmoid(x: Float64Array) -> Float64Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def logit(p: Any) -> Float64Array:
    """log(p / (1 - p)), with p kept a little from 0 and 1."""
    p = np.clip(np.asarray(p, np.float64), _EDGE, 1 - _EDGE)
    return np.log(p) - np.log1p(-p)


def _isotonic(p: Float32Array, target: Float64Array) -> Float64Array:
    from sklearn.isotonic import (  # pyright: ignore[reportMissingTypeStubs]
        IsotonicRegression,
    )

    fitted = cast("Any", IsotonicRegression)(out_of_bounds="clip").fit(p, target)
    return np.stack([fitted.X_thresholds_, fitted.y_thresholds_]).astype(np.float64)
