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
    """One candidate, fitted on all rows, and how well it does on held-out ones."""

    candidate: Candidate
    most_accurate: Candidate
    """The one of the highest held-out accuracy: another only where the choice was sparing."""
    weights: Weights
    accuracy: float
    """Mean over the repeats."""
    log_loss: float
    """In nats, of the first repeat."""
    exact_calls: float
    """Experts that the exact quorum waits for, as a share of all, in the first repeat."""
    stopping: Stopping


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """How a candidate does on rows under weights that they had no part in."""

    correct: Floats
    """[n usable]: how often each row is right, in [0, 1]."""
    scores: Floats
    """[N], in the first repeat."""
    course: Course
    """[n usable, m], in the first repeat."""


def choose(
    ballots: Ballots,
    candidates: Sequence[Candidate],
    folds: Sequence[Ints],
    *,
    max_loss: float,
    sparing: bool = False,
) -> Chosen:
    """The candidate with the highest held-out accuracy, the first of equals, or a sparing one.

    All its weights are then multiplied by one factor, under which the held-out right answers are
    likeliest: the winners stay the same, and the posterior becomes calibrated.

    Source: the sparing choice is the one-standard-error rule of Breiman et al., "Classification and
    Regression Trees" (1984), section 3.4.3. Deviations: the error is that of the paired difference;
    the simplest is what an exact quorum waits for the fewest votes of.

    Args:
        ballots: All rows.
        candidates: Ways to weigh them.
        folds: Each row's fold [n], one array for each repeat; the first also says where to stop.
        max_loss: What ending a vote by its posterior may lose of the accuracy.
        sparing: Of all that are within one standard error of the highest accuracy, take the one
            that needs the fewest votes until none can change the winner.
    """
    held_out = [_hold_out(ballots, candidate, folds) for candidate in candidates]
    accuracies = [float(of.correct.mean()) for of in held_out]
    best = accuracies.index(max(accuracies))
    number = _sparing(held_out, best) if sparing else best
    candidate, of = candidates[number], held_out[number]
    factor = min(SCALES, key=lambda scale: ballots.log_loss(of.scores * scale))
    weights = candidate.fit(ballots).times(factor)
    usable = ballots.take(ballots.is_usable)
    return Chosen(
        candidate,
        candidates[best],
        weights,
        accuracy=accuracies[number],
        log_loss=ballots.log_loss(of.scores * factor),
        exact_calls=_mean_calls(of.course),
        stopping=choose_threshold(of.course, run_course(usable, weights), max_loss),
    )


def _sparing(held_out: Sequence[_HeldOut], best: int) -> int:
    """The candidate that needs the fewest votes of those that are nearly as good as the best."""

    def is_near(of: _HeldOut) -> bool:
        loss = held_out[best].correct - of.correct
        return bool(loss.mean() <= loss.std() / np.sqrt(len(loss)))

    near = [number for number, of in enumerate(held_out) if is_near(of)]
    return min(near, key=lambda number: _mean_calls(held_out[number].course))


def _mean_calls(course: Course) -> float:
    return float(course.calls().mean()) / course.share.shape[1]


def _hold_out(ballots: Ballots, candidate: Candidate, repeats: Sequence[Ints]) -> _HeldOut:
    is_usable = ballots.is_usable
    correct: list[Floats] = []
    scores, courses = np.zeros(len(ballots.query)), list[Course]()
    for repeat, folds in enumerate(repeats):
        held_out = np.zeros(len(ballots.query))
        for fold in np.unique(folds):
            weights = candidate.fit(ballots.take(folds != fold))
            is_out = (folds == fold)[ballots.query]
            held_out[is_out] = ballots.scores(weights)[is_out]
            if repeat == 0:
                rows = (folds == fold) & is_usable
                courses.append(run_course(ballots.take(rows), weights))
        correct.append(ballots.correct(held_out)[is_usable].astype(np.float64))
        if repeat == 0:
            scores = held_out
    return _HeldOut(np.mean(correct, axis=0), scores, _join(courses))


def _join(courses: Sequence[Course]) -> Course:
    """The courses of some rows and of others as one."""
    return Course(
        np.concatenate([course.share for course in courses]),
        np.concatenate([course.is_right for course in courses]),
        np.concatenate([course.stays for course in courses]),
    )
