"""Which experts, from cheap to dear, and which thresholds: the cheapest for each accuracy wanted.

Stages are chosen greedily and thresholds exhaustively: all pairs of experts are tried, then every
expert is added to the pairs that some accuracy is cheapest with, and so on; each list of stages is
tried with all combinations of some quantiles of its confidences. A list's rows are counted once by
the intervals between thresholds that their confidences fall in; sums over these counts then give
accuracy and cost of every combination.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from composer.outcomes import OutcomeTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

NEVER = 2.0
"""A threshold above every confidence."""
N_CELLS = 4096
"""Combinations of thresholds that are tried for one list of stages, about."""
MOST_LEVELS = 32
"""Thresholds that are tried for one stage."""
BEAM = 2
"""Lists of stages kept of each length for each accuracy wanted."""
_DECIMALS = 9
"""Confidences this near are equal, so that rounding elsewhere does not change who is accepted."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Recorded answers, and how much each expert's counts: n rows, m experts."""

    codes: NDArray[np.int32]
    """Answers [n, m]; equal ones are equal numbers, below 0: none."""
    score: Float64Array
    """[n, m]."""
    cost_usd: Float64Array
    """[n, m]."""
    accuracies: Float64Array
    """[m], inside (0, 1)."""
    n_options: int
    measure: str
    """`share` or `posterior`."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What k stages make of n rows, each stage as if all before it had been asked."""

    confidence: Float64Array
    """[k, n]; -1: nobody has answered, so that no threshold accepts."""
    score: Float64Array
    """Of the leading answer [k, n]."""
    cost_usd: Float64Array
    """Of the stages so far [k, n]."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """A list of stages with its thresholds, and what they did on the rows of the search."""

    columns: tuple[int, ...]
    thresholds: tuple[float, ...]
    accuracy: float
    cost_usd: float


def count_right(table: OutcomeTable) -> Float64Array:
    """Each expert's accuracy [m] where it answers: (right + 1) / (answered + 2), as Laplace's."""
    assert table.answers is not None, "votes are counted over recorded answers"
    answered = (table.answers.codes >= 0).sum(axis=0)
    right = np.where(table.answers.codes >= 0, table.score, 0).sum(axis=0, dtype=np.float64)
    return (right + 1) / (answered + 2)


def stage_votes(votes: Votes, columns: Sequence[int]) -> Stages:
    """What the stages of these columns make of the rows, in their order."""
    index = list(columns)
    codes, score = votes.codes[:, index].T, votes.score[:, index].T
    n_stages, n = codes.shape
    p = votes.accuracies[index]
    is_posterior = votes.measure == "posterior"
    weights = np.log(p * (votes.n_options - 1) / (1 - p)) if is_posterior else np.ones(n_stages)
    confidence, leading = np.empty((n_stages, n)), np.empty((n_stages, n))
    totals = np.zeros((n_stages, n))
    has = codes >= 0
    is_new = has.copy()
    for stage in range(n_stages):
        for other in range(stage):
            agree = has[stage] & (codes[stage] == codes[other])
            totals[other] += weights[stage] * agree
            is_new[stage] &= ~agree
        for other in range(stage + 1):
            totals[stage] += weights[other] * (has[stage] & (codes[stage] == codes[other]))
        top, leading[stage] = np.full(n, -np.inf), score[stage]
        for other in range(stage + 1):
            leads = has[other] & (totals[other] >= top)
            top = np.where(leads, totals[other], top)
            leading[stage] = np.where(leads, score[other], leading[stage])
        if is_posterior:
            so_far = slice(0, stage + 1)
            confidence[stage] = _posterior(
                totals[so_far], is_new[so_far], top, is_new[so_far].sum(axis=0), votes.n_options
            )
        else:
            confidence[stage] = top / (stage + 1) if stage else 0.0
        confidence[stage] = np.where(np.isneginf(top), -1.0, confidence[stage])
    cost = np.cumsum(votes.cost_usd[:, index].T, axis=0)
    return Stages(np.round(confidence, _DECIMALS), leading, cost)


def _posterior(
    totals: Float64Array,
    is_new: NDArray[np.bool_],
    top: Float64Array,
    n_given: Int64Array,
    n_options: int,
) -> Float64Array:
    """See `posterior_confidence`; `is_new` counts each of the answers once."""
    base = np.maximum(top, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        given = np.where(is_new, np.exp(totals - base), 0.0).sum(axis=0)
        others = np.maximum(0, n_options - n_given) * np.exp(-base)
        return np.exp(top - base) / (given + others)


def run_cascade(
    stages: Stages, thresholds: Sequence[float]
) -> tuple[Float64Array, Float64Array, Int64Array]:
    """What a cascade scores and costs on each row, and which stage's answer stands: [n] each."""
    last = len(stages.confidence) - 1
    limits = np.array([*thresholds, -1.0])
    # The last stage accepts what nothing else does.
    answers = np.where(np.arange(last + 1) == last, -np.inf, limits)[:, None] <= stages.confidence
    stage = answers.argmax(axis=0)
    rows = np.arange(len(stage))
    return stages.score[stage, rows], stages.cost_usd[stage, rows], stage


def frontier(
    votes: Votes, targets: Sequence[float], n_stages: int, within: Collection[int] | None = None
) -> list[Cascade]:
    """The cheapest cascade found for each accuracy.

    Args:
        votes: The rows that accuracy and cost are counted on.
        targets: Accuracies; where none reaches one, the most accurate cascade stands in.
        n_stages: Stages at most.
        within: Columns that may be stages; None: all.
    """
    order = np.argsort(votes.cost_usd.mean(axis=0), kind="stable")
    pool = [int(c) for c in order if within is None or int(c) in within]
    place = {column: i for i, column in enumerate(pool)}
    best: list[Cascade | None] = [None] * len(targets)
    beam: set[tuple[int, ...]] = set()
    for size in range(1, n_stages + 1):
        if size <= 2:
            lists = set(combinations(pool, size))
        else:
            longer = ({*columns, more} for columns in beam for more in pool)
            lists = {tuple(sorted(each, key=place.__getitem__)) for each in longer}
            lists -= beam
        tried: list[list[Cascade]] = [[] for _ in targets]
        for columns in sorted(lists):
            for at, found in enumerate(_cheapest(stage_votes(votes, columns), columns, targets)):
                tried[at].append(found)
        for at, target in enumerate(targets):
            ranked = sorted(tried[at], key=lambda each: _rank(each, target))
            beam |= {each.columns for each in ranked[:BEAM]}
            candidates = [*ranked[:1], *filter(None, [best[at]])]
            best[at] = min(candidates, key=lambda each: _rank(each, target), default=None)
        beam = {columns for columns in beam if len(columns) == size}
    return [each for each in best if each is not None]


def _rank(cascade: Cascade, target: float) -> tuple[float, float]:
    """Lower is better: the cost where the accuracy is reached, else how much is lacking."""
    lack = max(0.0, target - cascade.accuracy)
    return lack, cascade.cost_usd


def _cheapest(stages: Stages, columns: tuple[int, ...], targets: Sequence[float]) -> list[Cascade]:
    """The cheapest combination of thresholds for each accuracy, or the most accurate one."""
    n_gates = len(columns) - 1
    most = min(MOST_LEVELS, max(2, math.floor(N_CELLS ** (1 / n_gates)) - 1)) if n_gates else 0
    levels = [_levels(confidence, most) for confidence in stages.confidence[:-1]]
    accuracy, cost = _all_means(stages, levels)
    found: list[Cascade] = []
    for target in targets:
        reaches = accuracy >= target
        if reaches.any():
            flat = int(np.where(reaches, cost, np.inf).argmin())
        else:
            flat = int(accuracy.argmax())
        cell = np.unravel_index(flat, accuracy.shape)
        thresholds = tuple(
            float(level[i]) if i < len(level) else NEVER
            for level, i in zip(levels, cell, strict=True)
        )
        found.append(Cascade(columns, thresholds, float(accuracy[cell]), float(cost[cell])))
    return found


def _levels(confidence: Float64Array, most: int) -> Float64Array:
    """Thresholds to try, rising: 0, then midway between neighbouring values at some quantiles."""
    values = np.unique(confidence[confidence >= 0])
    if not values.size:
        return np.zeros(1)
    between = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    if len(between) <= most:
        return between
    wanted = np.quantile(confidence[confidence >= 0], np.linspace(0, 1, most, endpoint=False))
    return np.unique(between[np.searchsorted(values, wanted).clip(0, len(between) - 1)])


def _all_means(stages: Stages, levels: Sequence[Float64Array]) -> tuple[Float64Array, Float64Array]:
    """Accuracy and cost of every combination of thresholds, the last index of each being never."""
    shape = tuple(len(level) + 1 for level in levels)
    n = len(stages.score[0])
    # A row with b levels at or below its confidence is accepted by the thresholds 0..b-1.
    bins: list[Int64Array] = [
        np.asarray(np.searchsorted(level, confidence, side="right"), np.int64)
        for level, confidence in zip(levels, stages.confidence, strict=False)
    ]
    means = (np.zeros(shape), np.zeros(shape))
    cell = np.zeros(n, np.int64)
    for stage in range(len(shape) + 1):
        is_last = stage == len(shape)
        if not is_last:
            cell = cell * shape[stage] + bins[stage]
        size = shape[: stage + 1]
        for mean, values in zip(means, (stages.score[stage], stages.cost_usd[stage]), strict=True):
            sums = np.bincount(cell, weights=values, minlength=math.prod(size)).reshape(size)
            for axis in range(min(stage, len(shape))):
                sums = sums.cumsum(axis=axis)
            if not is_last:
                sums = sums.sum(axis=stage, keepdims=True) - sums.cumsum(axis=stage)
            mean += sums.reshape(size + (1,) * (len(shape) - len(size))) / n
    return means
