"""Tells a query's category from its embedding: probabilities over the categories of a training.

    embeddings -- logits -- softmax(logits / temperature) -- probabilities

All categories weigh equally in learning, however many rows they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from routers.index import FlatIndex
from routers.kernel import Kernel, batches, kernel_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

ClassifierKind = Literal["logistic", "neighbours"]
PENALTY = 0.1
"""On the squared coefficients, beside the sum of the rows' log losses: C = 10 elsewhere."""
KERNEL = Kernel(k=40, temperature=0.1, shrinkage=0.5)
"""How neighbours vote."""
TEMPERATURES = tuple(float(t) for t in np.geomspace(0.2, 5, 49))
_SPARE = 16
"""Neighbours searched beyond k, for those that are as near as the k-th."""
_CURVATURE = 0.05
"""Of a row's log loss along a logit, roughly; only how fast the fit goes depends on it."""
_LEAST = 1e-9


class Classifier(Protocol):
    """What a classifier has learned."""

    def logits(self, embeddings: Float32Array) -> Float64Array:
        """[n, s] of embeddings [n, d]."""
        ...

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, for `restore_classifier`."""
        ...


@dataclass(frozen=True, eq=False)
class Logistic:
    """Multinomial logistic regression."""

    coefficients: Float32Array
    """[d, s]."""
    intercepts: Float32Array
    """[s]."""

    def logits(self, embeddings: Float32Array) -> Float64Array:
        """See `Classifier.logits`."""
        return (embeddings @ self.coefficients + self.intercepts).astype(np.float64)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Classifier.arrays`."""
        return {"coefficients": self.coefficients, "intercepts": self.intercepts}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Votes of the nearest rows, weighted by similarity; a row of a rare category counts more."""

    embeddings: Float32Array
    """Of the rows, [r, d]."""
    codes: Int64Array
    """Each row's category [r]."""
    counts: Int64Array
    """Rows of each category [s]."""

    @cached_property
    def index(self) -> FlatIndex:
        """Of the embeddings."""
        return FlatIndex(self.embeddings)

    def logits(self, embeddings: Float32Array) -> Float64Array:
        """See `Classifier.logits`."""
        s = len(self.counts)
        votes = np.eye(s, dtype=np.float32)
        prior = (self.counts / self.counts.sum()).astype(np.float32)
        k = min(KERNEL.k + _SPARE, self.index.size)
        shares = [np.zeros((0, s), np.float32)]
        for rows in batches(np.arange(len(embeddings)), k, s):
            similarity, ids = self.index.top_k(embeddings[rows], k)
            shares.append(kernel_means(similarity, votes[self.codes[ids]], prior, KERNEL))
        likelihood = np.concatenate(shares) / np.maximum(prior, _LEAST)
        return np.log(np.maximum(likelihood.astype(np.float64), _LEAST))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Classifier.arrays`."""
        return {"embeddings": self.embeddings, "codes": self.codes, "counts": self.counts}


def fit_classifier(
    kind: ClassifierKind, embeddings: Float32Array, codes: Int64Array, n_categories: int
) -> Classifier:
    """Learn to tell categories.

    Without a row, all categories are equally likely.

    Args:
        kind: Which classifier.
        embeddings: Of r rows, [r, d].
        codes: Each row's category [r], 0 to s - 1; some may have no row.
        n_categories: s.
    """
    counts = np.bincount(codes, minlength=n_categories)
    if kind == "neighbours" and len(codes):
        return Neighbours(embeddings, codes, counts)
    return _fit_logistic(embeddings, codes, counts)


def restore_classifier(kind: ClassifierKind, arrays: Mapping[str, NDArray[Any]]) -> Classifier:
    """The classifier of which `Classifier.arrays` gave these.

    Raises:
        KeyError: They are those of another kind.
    """
    if kind == "neighbours":
        return Neighbours(arrays["embeddings"], arrays["codes"], arrays["counts"])
    return Logistic(arrays["coefficients"], arrays["intercepts"])


def softmax(logits: Float64Array, temperature: float = 1.0) -> Float64Array:
    """Probabilities [n, s] of logits [n, s]."""
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def choose_temperature(logits: Float64Array, codes: Int64Array) -> float:
    """The temperature of least log loss, each category weighing equally; 1 where there is no row.

    Source: Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599).

    Args:
        logits: Of n rows that the classifier has not seen, [n, s].
        codes: Each row's category [n].
    """
    if not len(codes):
        return 1.0
    weights = 1 / np.bincount(codes)[codes]

    def loss(temperature: float) -> float:
        p = softmax(logits, temperature)[np.arange(len(codes)), codes]
        return float(-weights @ np.log(np.maximum(p, _LEAST)))

    return min(TEMPERATURES, key=loss)


def _fit_logistic(embeddings: Float32Array, codes: Int64Array, counts: Int64Array) -> Logistic:
    """L-BFGS in coordinates in which the loss curves about alike in all directions.

    They are the principal axes, each scaled by the curvature that the loss has along it, which
    takes a few times fewer steps than in the embeddings' own.
    """
    from scipy.optimize import (  # pyright: ignore[reportMissingTypeStubs]
        minimize,  # pyright: ignore[reportUnknownVariableType]
    )

    n, d = embeddings.shape
    s = len(counts)
    if not n:
        return Logistic(np.zeros((d, s), np.float32), np.zeros(s, np.float32))
    weights = (n / (max(1, int((counts > 0).sum())) * counts[codes])).astype(np.float32)
    centre = weights @ embeddings / n
    centred = embeddings - centre
    spread, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    scale = 1 / np.sqrt(_CURVATURE * np.maximum(spread, 0) + PENALTY)
    basis = (axes * scale).astype(np.float32)
    scale_of_intercept = np.float32(1 / np.sqrt(_CURVATURE * n))
    rows = centred @ basis
    penalties = (PENALTY * scale**2).astype(np.float32)[:, None]
    is_code = np.eye(s, dtype=np.float32)[codes]

    def loss(flat: Float64Array) -> tuple[float, Float64Array]:
        parameters = flat.astype(np.float32).reshape(d + 1, s)
        logits = rows @ parameters[:-1] + scale_of_intercept * parameters[-1]
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        sums = odds.sum(axis=1, keepdims=True)
        log_losses = np.log(sums[:, 0]) - (logits * is_code).sum(axis=1)
        penalised = penalties * parameters[:-1]
        value = float(weights @ log_losses) + 0.5 * float((penalised * parameters[:-1]).sum())
        errors = (odds / sums - is_code) * weights[:, None]
        slopes = [rows.T @ errors + penalised, scale_of_intercept * errors.sum(0, keepdims=True)]
        return value / n, (np.concatenate(slopes) / n).astype(np.float64).ravel()

    options = {"maxiter": 60, "ftol": 3e-4}
    found: Any = cast("Any", minimize)(
        loss, np.zeros((d + 1) * s), jac=True, method="L-BFGS-B", options=options
    )
    parameters = found.x.reshape(d + 1, s)
    coefficients = basis @ parameters[:-1]
    intercepts = scale_of_intercept * parameters[-1] - centre @ coefficients
    return Logistic(coefficients.astype(np.float32), intercepts.astype(np.float32))
