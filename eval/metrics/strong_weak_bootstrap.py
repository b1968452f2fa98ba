"""What RouteLLM's APGR, averaged over seeds, would be on other questions and other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.arrays import (
    Float64Array,
    FloatArray,
    Int64Array,
    check_codes,
    check_shapes,
    ratio,
)
from eval.metrics.bootstrap import draw_counts
from eval.metrics.strong_weak import strong_calls

_CHUNK_CELLS = 1 << 16
"""Counts made at a time: half a megabyte for each array of them, which stays in the cache."""


@dataclass(frozen=True, slots=True)
class StrongWeakRun:
    """One seed's predictions on its test questions, and what the two experts scored on them."""

    p_strong: FloatArray
    """[n], as in `strong_weak_curve`."""
    strong: FloatArray
    """[n]."""
    weak: FloatArray
    """[n]."""
    question: Int64Array
    """Which question each row is [n], by any number, the same one in every run; each once."""
    category: Int64Array | None = None
    """Codes of strata [n]: all runs have them, or none; a question has one in all of them."""


def bootstrap_strong_weak(
    runs: Sequence[StrongWeakRun], *, n_bins: int = 10, n_resamples: int = 2000, seed: int = 0
) -> Float64Array:
    """Resample questions and seeds together; keep the mean over the seeds of the APGR.

    Each resample draws as many questions as the runs have between them, with replacement and
    within each category, and as many runs as there are, with replacement. A question that is drawn
    twice counts twice in *every* run that has it: what makes it hard is shared by the runs. A run
    that lacks it (its training labels were drawn there) has that much fewer questions in this
    resample, and its cuts move with their number. The APGR of each drawn run is that of
    `apgr(strong_weak_curve(...))` on the repeated rows, which equal predictions share anyway.

    So an interval of the samples covers both what was asked and which seed was drawn. With r runs
    it is wide where the noise of single questions is not shared by the runs, which enters with the
    questions and again with the seeds (up to 1 + (r - 1) / r times its variance), and narrow for
    the seeds, of which a resample shows (r - 1) / r of the variance. With one run it covers the
    questions only.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007, on resampling
    two crossed factors.

    Args:
        runs: One a seed.
        n_bins: See `strong_weak_curve`.
        n_resamples: B.
        seed: The same seed and runs give the same samples.

    Returns:
        Samples [B] for `interval`. A run without a gap in a resample is left out of its mean; NaN
        where no drawn run has one.

    Raises:
        ValueError: There are no runs or no resamples, shapes differ, a question is twice in a run
            or of two categories, or only some runs have categories.
    """
    if not runs or n_resamples < 1:
        raise ValueError(f"runs {len(runs)} and n_resamples {n_resamples} must be at least 1")
    ranked = [_known_by_falling_prediction(run) for run in runs]
    strata, questions = _union(ranked)
    n = sum(len(members) for members in strata)
    rng = np.random.default_rng(seed)
    picks = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=n_resamples)
    samples = np.empty(n_resamples)
    chunk = max(1, _CHUNK_CELLS // max(n, 1))
    for begin in range(0, n_resamples, chunk):
        weights = picks[begin : begin + chunk].astype(np.float64)
        counts = np.zeros((len(weights), n), np.int64)
        for members in strata:
            counts[:, members] = draw_counts(rng, len(members), len(weights))
        values = np.stack(
            [
                apgr_of_counts(
                    run.p_strong, run.strong - run.weak, counts.take(question, axis=1), n_bins
                )
                for run, question in zip(ranked, questions, strict=True)
            ],
            axis=1,
        )
        weights[np.isnan(values)] = 0.0
        total = np.where(weights > 0, weights * values, 0.0).sum(axis=1)
        samples[begin : begin + chunk] = ratio(total, weights.sum(axis=1))
    return samples


def apgr_of_counts(
    p_strong: FloatArray, gain: FloatArray, counts: Int64Array, n_bins: int = 10
) -> Float64Array:
    """The APGR on each of c repetitions of the same rows, as of `strong_weak_curve` on all rows.

    With the accuracy as weak + recovered / n, the weak expert's cancels out of (area - weak) /
    (strong - weak): only what the strong expert adds is needed.

    Args:
        p_strong: Falling [n].
        gain: Strong less weak score [n].
        counts: How often each row is there in each repetition [c, n].
        n_bins: See `strong_weak_curve`.

    Returns:
        [c]; NaN where the strong expert is no better.
    """
    if not len(p_strong):
        return np.full(len(counts), np.nan)
    group_start = np.flatnonzero(p_strong != np.append(np.nan, p_strong[:-1]))
    group_size: Float64Array = counts.astype(np.float64)
    group_total: Float64Array = group_size * gain
    if len(group_start) < len(p_strong):
        group_size = np.add.reduceat(group_size, group_start, axis=1)
        group_total = np.add.reduceat(group_total, group_start, axis=1)
    size, total = np.cumsum(group_size, axis=1), np.cumsum(group_total, axis=1)
    n = size[:, -1]
    calls = strong_calls(n.astype(np.int64), n_bins).astype(np.float64)

    # The group that each cut goes through: one search in all rows, each lifted above the last.
    row = np.arange(len(counts))[:, None]
    lift = row * (float(n.max()) + 1)
    ends, cuts = (size + lift).ravel(), (calls + lift).ravel()
    group = np.searchsorted(ends, cuts).reshape(calls.shape)
    group -= row * len(group_start)
    is_left = ratio(size[row, group] - calls, group_size[row, group])
    # At 0 calls the group may be one that was not drawn, of which there is no share.
    recovered = np.where(calls > 0, total[row, group] - is_left * group_total[row, group], 0.0)

    gap = recovered[:, -1]
    area = ((recovered[:, 1:] + recovered[:, :-1]) / 2 * np.diff(calls, axis=1)).sum(axis=1)
    return ratio(area, np.where(gap > 0, gap * n, 0.0))


def _union(runs: Sequence[StrongWeakRun]) -> tuple[list[Int64Array], list[Int64Array]]:
    """Of all questions in any run: those of each stratum, and those of each run, as places."""
    ids, place = np.unique(np.concatenate([run.question for run in runs]), return_inverse=True)
    category = np.zeros(len(ids), np.int64)
    given = [run.category for run in runs if run.category is not None]
    if given:
        if len(given) < len(runs):
            raise ValueError("only some of the runs have categories; give all of them, or none")
        category[place] = np.concatenate(given)
        if not np.array_equal(category[place], np.concatenate(given)):
            raise ValueError("a question has two categories; give it one in every run")
    strata = [np.flatnonzero(category == code) for code in np.unique(category)]
    return strata, np.split(place, np.cumsum([len(run.question) for run in runs])[:-1])


def _known_by_falling_prediction(run: StrongWeakRun) -> StrongWeakRun:
    check_shapes(p_strong=run.p_strong, strong=run.strong, weak=run.weak, question=run.question)
    if run.category is not None:
        check_codes(run.category, len(run.question))
    if len(np.unique(run.question)) < len(run.question):
        raise ValueError("a question is twice in one run; give each row a number of its own")
    known = np.flatnonzero(~np.isnan(run.p_strong + run.strong + run.weak))
    rows = known[np.argsort(-run.p_strong[known], kind="stable")]
    return StrongWeakRun(
        run.p_strong[rows].astype(np.float64),
        run.strong[rows].astype(np.float64),
        run.weak[rows].astype(np.float64),
        run.question[rows],
        None if run.category is None else run.category[rows],
    )
