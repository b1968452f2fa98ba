"""What one more query costs in loading where whoever loads an expert loads it for all.

An expert that takes L seconds to load and answers n queries costs each of them L / n. So a query
that a cold expert would answer hardly better stays with those that are up or popular, while an
expert that many need is loaded for next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.experts import ChooseRule
    from composer.types import Float32Array

CHUNK = 1 << 14
"""Queries that are chosen for at one time."""
MAX_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class LoadSaving:
    """What a penalty for loads changes."""

    quality: float
    """Predicted quality that a chosen expert loses, in the mean; at least 0 where cost weighs 0."""
    seconds: float
    """Of loading, of experts that nobody is sent to any more."""
    loaded: tuple[str, ...]
    """Experts that queries are sent to and that have to be loaded."""
    spared: tuple[str, ...]
    """Experts that queries would be sent to without the penalty."""


def marginal_load_s(
    experts: Sequence[str],
    quality: Float32Array,
    cost_usd: Float32Array,
    load_s: Float32Array,
    rule: ChooseRule,
) -> tuple[Float32Array, LoadSaving]:
    """The seconds of loading that a query on each expert is held to cost, [m].

    Queries go where utility sends them, which says how many share each load, which changes the
    utilities, until nothing changes: shares only shrink, so an expert is given up at last or kept
    by queries that are worth its whole load together. Thresholds and fallbacks are not looked at.

    Args:
        experts: m names.
        quality: Predicted [n, m]; NaN: unknown.
        cost_usd: Of asking each expert [n, m].
        load_s: Seconds [m] until each expert could start; 0: it is up.
        rule: Whose k experts are chosen; with a load_weight.
    """
    before, quality_before = _choose(quality, cost_usd, np.zeros_like(load_s), rule)
    counts, marginal = before, np.zeros_like(load_s)
    quality_after = quality_before
    for _ in range(MAX_ROUNDS):
        marginal = (load_s / np.maximum(1, counts)).astype(np.float32)
        now, quality_after = _choose(quality, cost_usd, marginal, rule)
        now = np.minimum(now, counts)
        if np.array_equal(now, counts):
            break
        counts = now
    is_cold = load_s > 0
    spared = is_cold & (before > 0) & (counts == 0)
    loaded = is_cold & (counts > 0)
    return marginal, LoadSaving(
        quality=quality_before - quality_after,
        seconds=float(load_s[spared].sum()),
        loaded=tuple(np.array(experts, object)[loaded]),
        spared=tuple(np.array(experts, object)[spared]),
    )


def _choose(
    quality: Float32Array, cost_usd: Float32Array, load_s: Float32Array, rule: ChooseRule
) -> tuple[NDArray[np.int64], float]:
    """How many queries each expert is chosen for, and the mean quality of the choices."""
    n, m = quality.shape
    k = min(rule.k, m)
    counts, total, n_chosen = np.zeros(m, np.int64), 0.0, 0
    for begin in range(0, n, CHUNK):
        rows = slice(begin, begin + CHUNK)
        utility = rule.utility(quality[rows], cost_usd[rows], load_s)
        chosen = np.argsort(np.where(np.isnan(utility), np.inf, -utility), axis=1, kind="stable")
        picked = np.take_along_axis(np.asarray(quality[rows]), chosen[:, :k], axis=1)
        is_known = ~np.isnan(picked)
        counts += np.bincount(chosen[:, :k][is_known], minlength=m)
        total += float(picked[is_known].sum())
        n_chosen += int(is_known.sum())
    return counts, total / max(1, n_chosen)
