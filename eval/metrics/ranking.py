"""How well predicted qualities rank the experts of a query: nDCG and recall at k, per query.

Both return one value a query, for `accuracy` to average and `resample_means` to resample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.metrics.arrays import Float64Array, FloatArray, Int64Array, check_shapes, ratio

_CHUNK_CELLS = 1 << 17
"""Cells ranked at a time: 1 MB for each of the few arrays that are made of them."""


def ndcg_at_k(quality: FloatArray, score: FloatArray, k: int) -> Float64Array:
    """The gain of the k highest-ranked experts, discounted by rank, over the best possible one.

    The gain is the score itself (not 2^score - 1), the discount 1 / log2(1 + rank). Experts of
    equal predicted quality share their ranks: each has the mean discount of all of them, which is
    the expectation over their random order. An expert of unknown quality ranks below the known
    ones, all such equally; one of unknown score is taken out of the query.

    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR techniques, 2002; ties
    as in McSherry and Najork, Computing information retrieval performance measures efficiently in
    the presence of tied scores, 2008.

    Args:
        quality: Predicted [n, m].
        score: In [0, 1] [n, m].
        k: At least 1; above m it is m.

    Returns:
        In [0, 1] [n]. NaN where every known score is 0 (no order is better than another) or none is
        known; 1 where they are all equal and above 0.

    Raises:
        ValueError: Shapes differ, are not [n, m], or k is below 1.
    """

    def of_chunk(key: Float64Array, gain: Float64Array) -> Float64Array:
        place = np.arange(int(key.shape[1]))
        discount = np.where(place < k, 1 / np.log2(place + 2), 0.0)
        reached = np.append(0.0, np.cumsum(discount))
        start, end, gain_ranked = _groups(key, gain)
        shared = (reached[end] - reached[start]) / (end - start)
        ideal = np.sort(gain, axis=1)[:, ::-1] @ discount
        return ratio((gain_ranked * shared).sum(axis=1), ideal)

    return _in_chunks(of_chunk, quality, np.where(np.isnan(score), 0.0, score), score, k)


def recall_at_k(
    quality: FloatArray, score: FloatArray, k: int, threshold: float = 0.5
) -> Float64Array:
    """Whether the k experts of highest predicted quality include one that is right.

    Right is a score of at least `threshold`; a graded score counts as right or wrong, never in
    parts. Experts of equal predicted quality share their ranks: where the k-th place goes through a
    group of them, this is the probability that a random choice of the places left holds a right
    one. Unknown qualities and scores are treated as in `ndcg_at_k`.

    Args:
        quality: Predicted [n, m].
        score: In [0, 1] [n, m].
        k: At least 1; above m it is m.
        threshold: The lowest score that counts as right.

    Returns:
        In [0, 1] [n]; NaN where no expert is right: there is nothing to be recalled. The share of
        all queries with a right one among the k is this times the share of the known ones.

    Raises:
        ValueError: Shapes differ, are not [n, m], or k is below 1.
    """

    def of_chunk(key: Float64Array, right: Float64Array) -> Float64Array:
        start, end, right_ranked = _groups(key, right)
        running = np.pad(np.cumsum(right_ranked, axis=1), ((0, 0), (1, 0)))
        row = np.arange(len(key))
        place = min(k, key.shape[1]) - 1
        first, after = start[row, place], end[row, place]
        # None of the places drawn without replacement from the group of the k-th is right.
        missed = np.ones(len(key))
        n_right = running[row, after] - running[row, first]
        for drawn in range(place + 1):
            left = np.maximum(after - first - drawn, 1)
            is_drawn = drawn < place + 1 - first
            missed *= np.where(is_drawn, np.maximum(left - n_right, 0.0) / left, 1.0)
        missed[running[row, first] > 0] = 0.0
        return np.where(running[:, -1] > 0, 1 - missed, np.nan)

    return _in_chunks(of_chunk, quality, (score >= threshold).astype(np.float64), score, k)


def _in_chunks(
    of_chunk: Callable[[Float64Array, Float64Array], Float64Array],
    quality: FloatArray,
    gain: Float64Array,
    score: FloatArray,
    k: int,
) -> Float64Array:
    check_shapes(quality=quality, score=score)
    if quality.ndim != 2 or k < 1:
        raise ValueError(f"quality {quality.shape} must be [n, m] and k {k} at least 1")
    values = np.full(len(quality), np.nan)
    step = max(1, _CHUNK_CELLS // max(1, quality.shape[1]))
    for begin in range(0, len(quality) if quality.shape[1] else 0, step):
        rows = slice(begin, begin + step)
        # Ascending: known qualities, unknown ones (inf), experts that are out (NaN, sorted last).
        key = np.where(np.isnan(quality[rows]), np.inf, -quality[rows].astype(np.float64))
        key[np.isnan(score[rows])] = np.nan
        values[rows] = of_chunk(key, gain[rows].astype(np.float64))
    return values


def _groups(key: Float64Array, gain: Float64Array) -> tuple[Int64Array, Int64Array, Float64Array]:
    """Rank each row by rising key: where the group of each place starts and ends, and the gains.

    NaN keys are groups of their own; they have no gain.
    """
    order = np.argsort(key, axis=1)
    ranked = np.take_along_axis(key, order, axis=1)
    m = int(key.shape[1])
    is_first = np.ones(key.shape, bool)
    is_first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    place = np.arange(m)
    start = np.maximum.accumulate(np.where(is_first, place, 0), axis=1)
    is_last = np.ones(key.shape, bool)
    is_last[:, :-1] = is_first[:, 1:]
    end = np.minimum.accumulate(np.where(is_last, place + 1, m)[:, ::-1], axis=1)[:, ::-1]
    return start, end, np.take_along_axis(gain, order, axis=1)
