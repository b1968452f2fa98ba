"""A gate over experts, trained on the reward it expects; experts of a small gate are left out.

    gates = softmax(raw scores);  loss = -sum_j gate_j score_j + balance * Var(load) / Mean(load)^2

where an expert's load is the sum of its gates over a batch of queries.

Source: the adaptive selection network of Fusion-X (arXiv 2505.23844;
github.com/ZLKong/LLM_Integration at 33ddc4a): gates above 0.15 are kept and share the weight, and
the squared coefficient of variation of the load has the weight 0.5.

Deviations:
- The source makes its gate anew at every call, so that it is never trained. This one is.
- The source's gate reads what the experts made of the query; a router must not run them, so that
  this one reads the query's embedding.
- Gates below 0.15 are left out when they are used, not in training: among many experts no gate is
  above it at first, and no other than the largest would ever learn.
- The balance is chosen among 0 and the source's 0.5 by held-out reward: where one expert is good at
  everything, equal loads cost more than they are worth.
- An expert whose score is not known has no gate on that query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from composer.types import Float32Array

LEAST_GATE = 0.15
BALANCES = (0.0, 0.5)


def gates(raw: Float32Array, least: float = LEAST_GATE) -> Float32Array:
    """Shares of the experts [n, m], each row's sum 1; those below the least are 0.

    Args:
        raw: Raw scores [n, m]; NaN: no gate. Where all are NaN, so are the gates' shares: 0.
        least: The largest gate of a row is kept, whatever it is.
    """
    is_known = ~np.isnan(raw)
    logits = np.where(is_known, raw, -np.inf)
    top = np.max(logits, axis=1, keepdims=True)
    shares = np.where(is_known, np.exp(np.where(is_known, raw - top, 0)), 0)
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    kept = np.where((shares > least) | (logits == top), shares, 0)
    total = kept.sum(axis=1, keepdims=True)
    return np.divide(kept, total, out=np.zeros_like(kept), where=total > 0).astype(np.float32)


def reward_slope(raw: Float32Array, score: Float32Array, balance: float) -> Float32Array:
    """The gradient [n, m] of the loss of a batch by raw scores; see the module."""
    n, m = raw.shape
    is_known = ~np.isnan(score)
    shares = gates(np.where(is_known, raw, np.nan).astype(np.float32), least=0)
    by_gate = -np.where(is_known, score, 0) / n
    if balance:
        load = shares.sum(axis=0, dtype=np.float64)
        mean = load.mean()
        # Of Var / Mean^2 by a load: the mean depends on all loads alike, and their sum is n here.
        by_load = 2 * (load - mean) / (m * mean**2) - 2 * load.var() / (m * mean**3)
        by_gate = by_gate + balance * by_load
    expected = (shares * by_gate).sum(axis=1, keepdims=True)
    return (shares * (by_gate - expected)).astype(np.float32)


def lost_reward(raw: Float32Array, score: Float32Array) -> float:
    """What the kept gates miss of a perfect score, mean over the rows; inf: nothing is known."""
    is_known = ~np.isnan(score)
    kept = gates(np.where(is_known, raw, np.nan).astype(np.float32))
    reward = (kept * np.where(is_known, score, 0)).sum(axis=1)
    counts = (kept > 0).any(axis=1)
    return float(1 - reward[counts].mean()) if counts.any() else np.inf
