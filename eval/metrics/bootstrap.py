"""Intervals by resampling questions: what the means of a table would be on other questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from eval.metrics.arrays import (
    Float64Array,
    FloatArray,
    Int64Array,
    check_codes,
    ratio,
)
from eval.metrics.distinct import distinct_rows

_NORMAL_ROWS = 1000
"""Strata of fewer rows, or with a column known in fewer, are resampled exactly at any price."""
_BINOMIAL_DRAWS = 15
"""What one binomial count costs, in drawn rows."""
_CHUNK_CELLS = 1 << 16
"""Counts made at a time: half a megabyte, which stays in the cache."""


@dataclass(frozen=True, slots=True)
class ResampledMeans:
    """The means of B resampled tables, by stratum and column."""

    means: Float64Array
    """[B, s, m]: of the known cells; NaN where a resample of the stratum has none."""
    known: Float64Array
    """How many cells those are: [B, s, m], or [1, s, m] where every cell is known."""
    sizes: Int64Array
    """Rows of each stratum [s]: the same in every resample."""
    method: Literal["exact", "normal"]
    """`normal`: large strata were drawn from the bootstrap's normal limit, see `resample_means`."""

    def micro(self) -> Float64Array:
        """Means over all known cells of a resample [B, m]: every query counts the same."""
        sums = np.nansum(self.means * self.known, axis=1)
        return ratio(sums, self.known.sum(axis=1))

    def macro(self) -> Float64Array:
        """Means over the strata [B, m]: every stratum counts the same, unknown ones not at all."""
        is_known = ~np.isnan(self.means)
        sums = np.where(is_known, self.means, 0.0).sum(axis=1)
        return ratio(sums, is_known.sum(axis=1, dtype=np.float64))


def resample_means(
    values: FloatArray,
    strata: Int64Array | None,
    n_resamples: int = 10_000,
    seed: int = 0,
    *,
    max_draws: float = 1e9,
) -> ResampledMeans:
    """Resample rows within each stratum, with replacement and sizes fixed; keep the means.

    A difference of two columns has its interval from the paired columns of one call:
    `interval(r.micro()[:, 0] - r.micro()[:, 1])`. Two calls are not paired, even with one seed.

    A stratum is resampled in the cheapest of three ways. The first two are the bootstrap exactly:

    - *grouped*: multinomial counts over its distinct rows, where there are few;
    - *drawn*: row numbers, counted;
    - *normal*, in a table that would take more than `max_draws`, where a stratum takes more than
      its share of them and has at least 1,000 rows with every column known in 1,000 (or in none):
      sums and numbers of known cells from the multivariate normal with their means and plug-in
      covariance, which is what the bootstrap tends to. `method` is then `normal`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 8.

    Args:
        values: [n, m], one column a method; NaN: unknown, left out.
        strata: Codes 0..s-1 [n]; None: one stratum. A code that no row has is a stratum of size
            0, whose means are NaN.
        n_resamples: B.
        seed: The same seed and arguments give the same means.
        max_draws: How much work may be done exactly, in drawn rows (about 10 ns each).

    Raises:
        ValueError: A shape is wrong, strata are no codes, or there are no resamples to make.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or n_resamples < 1:
        raise ValueError(f"values {table.shape} must be [n, m] and n_resamples {n_resamples} >= 1")
    codes = np.zeros(len(table), np.int64) if strata is None else np.asarray(strata)
    check_codes(codes, len(table))

    known = ~np.isnan(table)
    gappy = np.flatnonzero(~known.all(axis=0))
    features = np.concatenate([np.where(known, table, 0.0), known[:, gappy]], axis=1)
    sizes = np.bincount(codes, minlength=1 if strata is None else 0)
    ends = np.cumsum(sizes)
    ordered = features[np.argsort(codes, kind="stable")]
    members = [ordered[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    totals, method = _resample_totals(members, table.shape[1], n_resamples, seed, max_draws)

    counts = np.broadcast_to(sizes[:, None].astype(np.float64), (1, len(sizes), table.shape[1]))
    if gappy.size:
        counts = np.repeat(counts, n_resamples, axis=0)
        counts[:, :, gappy] = totals[:, :, table.shape[1] :]
    means = ratio(totals[:, :, : table.shape[1]], counts)
    return ResampledMeans(means, counts, sizes, method)


def interval(samples: Float64Array, level: float = 0.95) -> tuple[Float64Array, Float64Array]:
    """The percentile interval of resampled values: its low and its high ends.

    Args:
        samples: [B] or [B, ...]; NaN ones are left out.
        level: The share of the samples between the ends, which are interpolated linearly.

    Returns:
        Two arrays of the shape of one sample, of no dimension for [B]; NaN where all are NaN.

    Raises:
        ValueError: The level is not inside (0, 1), or there are no samples.
    """
    if not 0 < level < 1 or not len(samples):
        raise ValueError(f"level {level} must be inside (0, 1), and samples {samples.shape} some")
    ordered = np.sort(samples, axis=0)
    last = np.maximum(np.count_nonzero(~np.isnan(samples), axis=0) - 1, 0)

    def quantile(share: float) -> Float64Array:
        position = np.asarray(share * last)
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, last)
        low, high = (np.take_along_axis(ordered, i[None], axis=0)[0] for i in (below, above))
        return low + (position - below) * (high - low)

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


def draw_counts(rng: np.random.Generator, n: int, n_resamples: int) -> Int64Array:
    """How often each of n rows is in each resample of n rows [n_resamples, n]."""
    drawn = rng.integers(0, n, (n_resamples, n))
    drawn += (np.arange(n_resamples) * n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n)


def _resample_totals(
    members: list[Float64Array], n_values: int, n_resamples: int, seed: int, max_draws: float
) -> tuple[Float64Array, Literal["exact", "normal"]]:
    """The resampled sums of each stratum's features [B, s, f]: n_values of values, then masks."""
    grouped = [distinct_rows(rows, at_most=len(rows) / _BINOMIAL_DRAWS) for rows in members]
    draws = [
        n_resamples * (len(rows) if groups is None else _BINOMIAL_DRAWS * len(groups[1]))
        for rows, groups in zip(members, grouped, strict=True)
    ]
    share = max_draws / len(members) if sum(draws) > max_draws else max_draws
    rng = np.random.default_rng(seed)
    n_features = members[0].shape[1] if members else n_values
    totals = np.zeros((n_resamples, len(members), n_features))
    method: Literal["exact", "normal"] = "exact"
    for stratum, (rows, groups) in enumerate(zip(members, grouped, strict=True)):
        if draws[stratum] > share and _is_nearly_normal(rows, n_values):
            totals[:, stratum] = _normal_totals(rng, rows, n_resamples)
            method = "normal"
        elif groups is not None:
            distinct, count = groups
            draw = partial(rng.multinomial, len(rows), count / len(rows))
            totals[:, stratum] = _exact_totals(distinct, draw, n_resamples)
        elif len(rows):
            draw = partial(draw_counts, rng, len(rows))
            totals[:, stratum] = _exact_totals(rows, draw, n_resamples)
    return totals, method


def _is_nearly_normal(rows: Float64Array, n_values: int) -> bool:
    known = rows[:, n_values:].sum(axis=0)
    return len(rows) >= _NORMAL_ROWS and bool(((known == 0) | (known >= _NORMAL_ROWS)).all())


def _exact_totals(
    rows: Float64Array, draw: Callable[[int], Int64Array], n_resamples: int
) -> Float64Array:
    """The sums of rows, drawn as often as `draw` says for some resamples at a time."""
    totals = np.empty((n_resamples, rows.shape[1]))
    chunk = max(1, _CHUNK_CELLS // len(rows))
    for start in range(0, n_resamples, chunk):
        part = totals[start : start + chunk]
        np.matmul(draw(len(part)).astype(np.float64), rows, out=part)
    return totals


def _normal_totals(rng: np.random.Generator, rows: Float64Array, n_resamples: int) -> Float64Array:
    n = len(rows)
    mean = rows.mean(axis=0)
    centred = rows - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / n)
    root = directions * np.sqrt(np.maximum(variances, 0.0))
    noise = rng.standard_normal((n_resamples, len(mean))) @ root.T
    # Rounding must not make a cell known that never is.
    noise[:, (rows == rows[0]).all(axis=0)] = 0.0
    return n * mean + np.sqrt(n) * noise
