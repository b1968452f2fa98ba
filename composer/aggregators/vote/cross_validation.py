"""One of several ways to weigh votes is chosen by the rows that each was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from composer.aggregators.vote.ballots import Ballots, Weights
from composer.aggregators.vote.stopping import Course, Stopping, choose_threshold, run_course

if TYPE_CHECKING:
    from composer.aggregators.vote.ballots import Floats, Ints

SCALES = tuple(2.0 ** (step / 4) for step in range(-32, 9))
"""Factors of all weights that are tried."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to weigh votes."""

    settings: Mapping[str, float | None]
    """What tells it from the others, as JSON holds it."""
    fit: Callable[[Ballots], Weights]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The best candidate, fitted on all rows, and how well it does on held-out ones."""

    candidate: Candidate
    weights: Weights
    accuracy: float
    """Mean over the repeats; the best of several is a little too high."""
    log_loss: float
    """In nats, of the first repeat."""
    stopping: Stopping


def choose(
    ballots: Ballots, candidates: Sequence[Candidate], folds: Sequence[Ints], *, max_loss: float
) -> Chosen:
    """The candidate with the highest held-out accuracy, the first of equals.

    All its weights are then multiplied by one factor, under which the held-out right answers are
    likeliest: the winners stay the same, and the posterior becomes calibrated.

    Args:
        ballots: All rows.
        candidates: Ways to weigh them.
        folds: Each row's fold [n], one array for each repeat; the first also says where to stop.
        max_loss: What ending a vote by its posterior may lose of the accuracy.
    """
    held_out = [[_held_out(ballots, c, fold) for fold in folds] for c in candidates]
    accuracies = [
        float(np.mean([ballots.correct(scores)[ballots.is_usable].mean() for scores in repeats]))
        for repeats in held_out
    ]
    best = int(np.argmax(accuracies))
    candidate, scores = candidates[best], held_out[best][0]
    factor = min(SCALES, key=lambda scale: ballots.log_loss(scores * scale))
    weights = candidate.fit(ballots).times(factor)
    stopping = choose_threshold(
        _held_out_course(ballots, candidate, folds[0], factor),
        run_course(ballots.take(ballots.is_usable), weights),
        max_loss,
    )
    log_loss = ballots.log_loss(scores * factor)
    return Chosen(candidate, weights, accuracies[best], log_loss, stopping)


def _held_out(ballots: Ballots, candidate: Candidate, folds: Ints) -> Floats:
    """Each answer's score [N] under the weights that its row had no part in."""
    scores = np.zeros(len(ballots.query))
    for fold in np.unique(folds):
        weights = candidate.fit(ballots.take(folds != fold))
        is_out = (folds == fold)[ballots.query]
        scores[is_out] = ballots.scores(weights)[is_out]
    return scores


def _held_out_course(ballots: Ballots, candidate: Candidate, folds: Ints, factor: float) -> Course:
    """How the votes of all usable rows go on under the weights that they had no part in."""
    courses = [
        run_course(
            ballots.take((folds == fold) & ballots.is_usable),
            candidate.fit(ballots.take(folds != fold)).times(factor),
        )
        for fold in np.unique(folds)
    ]
    return Course(
        np.concatenate([course.share for course in courses]),
        np.concatenate([course.is_right for course in courses]),
    )
