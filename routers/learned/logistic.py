"""Logistic regression of all experts at once: what they share, and what each has of its own.

    logit p(expert j is right) = level_j + (x - mean) @ (shared + own_j)

with an L2 penalty on `shared`, which says how hard a query is, and another one on `own`, which says
whom to choose. Few queries tell experts apart while all tell how hard they are, so `own` wants the
stronger penalty; one penalty for both either misses the difficulty or overfits the difference.

The loss is convex, and its curvature is at most a quarter of the embeddings' covariance whatever
the weights and the gaps in the outcomes are. So one eigendecomposition serves all experts, folds
and penalties: each step minimises that bound exactly, and a dozen accelerated steps are enough.

Sources: the bound is that of Boehning and Lindsay 1988, "Monotonicity of quadratic-approximation
algorithms", Ann. Inst. Statist. Math. 40; the acceleration Nesterov's, restarted as in O'Donoghue
and Candes, arXiv 1204.3982, section 3.2; shared and own weights are those of Evgeniou and Pontil
2004, "Regularized multi-task learning".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from routers.learned.network import Network, sigmoid

if TYPE_CHECKING:
    from composer.types import Float32Array

SHARED = (30.0, 10.0, 3.0, 1.0, 0.3)
OWN = (8.0, 4.0, 2.0)
"""`own_l2` as multiples of `shared_l2`: what is chosen among."""
MAX_STEPS = 40
_CLOSE = 3e-2
"""Largest change of a weight at which the steps end: a third of it moved held-out accuracies by
0.0005 at most."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """Precisions of the weights' Gaussian priors, whatever number of queries there is."""

    shared_l2: float
    own_l2: float


def penalty_grid(shared_l2: float | None, own_l2: float | None) -> list[Penalties]:
    """What is chosen among, where one or both are not given."""
    shareds = SHARED if shared_l2 is None else (shared_l2,)
    if own_l2 is not None:
        return [Penalties(shared, own_l2) for shared in shareds]
    return [Penalties(shared, shared * times) for shared, times in product(shareds, OWN)]


@dataclass(frozen=True, eq=False)
class Bound:
    """The scatter of n embeddings: it bounds the curvature on any of their rows and cells."""

    center: Float32Array
    """[d], their mean."""
    axes: Float32Array
    """Eigenvectors of the scatter matrix [d, d]."""
    scatter: Float32Array
    """Its eigenvalues [d, 1]."""


def make_bound(embeddings: Float32Array) -> Bound:
    """The bound for fits to some or all of these embeddings [n, d]."""
    center = embeddings.mean(axis=0)
    centred = embeddings - center
    scatter, axes = np.linalg.eigh(centred.T @ centred)
    return Bound(center, axes, np.maximum(scatter, 0)[:, None])


def fit_logistic(
    embeddings: Float32Array, score: Float32Array, candidates: Sequence[Penalties], bound: Bound
) -> Iterator[Network]:
    """A linear network for each of the penalties; each fit starts where the last one ended.

    Args:
        embeddings: [n, d].
        score: [n, m] in [0, 1], fractions allowed; NaN: unknown.
        candidates: The penalties, positive.
        bound: Of these embeddings, or of more.
    """
    problem = _make_problem(embeddings, score, bound)
    at = _Weights(np.zeros((embeddings.shape[1], score.shape[1]), np.float32), problem.start)
    for penalties in candidates:
        at = _minimise(problem, penalties, at)
        level = np.where(problem.n_known > 0, at.level, np.nan).astype(np.float32)
        yield Network(bound.center, at.weights, level)


@dataclass(frozen=True, eq=False)
class _Problem:
    bound: Bound
    centred: Float32Array
    """The embeddings less the bound's centre [n, d]."""
    known: Float32Array
    """[n, m], 1 where the score is known."""
    filled: Float32Array
    """[n, m], 0 where it is not."""
    n_known: Float32Array
    """[m]."""
    start: Float32Array
    """Smoothed log-odds [m]: also what levels are drawn to, with the precision 1, since the
    likelihood of an expert that is always right has no maximum."""


@dataclass(frozen=True, slots=True)
class _Weights:
    weights: Float32Array
    """[d, m]."""
    level: Float32Array
    """[m]."""

    def toward(self, other: _Weights, share: float) -> _Weights:
        """Some way from these to others, or beyond them."""
        return _Weights(
            (self.weights + np.float32(share) * (other.weights - self.weights)).astype(np.float32),
            (self.level + np.float32(share) * (other.level - self.level)).astype(np.float32),
        )


def _make_problem(embeddings: Float32Array, score: Float32Array, bound: Bound) -> _Problem:
    is_known = ~np.isnan(score)
    known, filled = is_known.astype(np.float32), np.where(is_known, score, 0)
    n_known = known.sum(axis=0)
    mean = (filled.sum(axis=0) + 0.5) / (n_known + 1)
    start = np.log(mean / (1 - mean)).astype(np.float32)
    return _Problem(bound, embeddings - bound.center, known, filled, n_known, start)


def _minimise(problem: _Problem, penalties: Penalties, start: _Weights) -> _Weights:
    at = ahead = start
    momentum = 1.0
    for _ in range(MAX_STEPS):
        last, at = at, _step(problem, penalties, ahead)
        change = float(np.abs(at.weights - last.weights).max())
        if max(change, float(np.abs(at.level - last.level).max())) < _CLOSE:
            break
        if float(np.sum((ahead.weights - at.weights) * (at.weights - last.weights))) > 0:
            momentum = 1.0
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = last.toward(at, 1 + (momentum - 1) / after)
        momentum = after
    return at


def _step(problem: _Problem, penalties: Penalties, at: _Weights) -> _Weights:
    """The minimum of the quadratic bound of the loss that touches it there."""
    shared_l2, own_l2 = np.float32(penalties.shared_l2), np.float32(penalties.own_l2)
    logits = problem.centred @ at.weights + at.level
    residual = problem.known * sigmoid(logits) - problem.filled
    slope = problem.centred.T @ residual
    shared, shared_slope = (each.mean(axis=1, keepdims=True) for each in (at.weights, slope))
    own, own_slope = at.weights - shared, slope - shared_slope
    axes, curvature = problem.bound.axes, problem.bound.scatter / 4
    down = axes @ (
        (axes.T @ (shared_slope + shared_l2 * shared)) / (curvature + shared_l2)
        + (axes.T @ (own_slope + own_l2 * own)) / (curvature + own_l2)
    )
    # Half the bound's own step: where an expert is known on some queries only, their mean is not
    # the centre, and its level is not independent of its weights.
    level_down = (residual.sum(axis=0) + at.level - problem.start) / (problem.n_known / 2 + 1)
    return _Weights(at.weights - down, at.level - level_down)
