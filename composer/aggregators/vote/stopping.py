"""How sure a winner must be to stay: no surer than it takes to lose no more than is allowed.

The votes of recorded rows are gone through as `composer.aggregators.vote.quorum` would end them,
their experts answering one by one in the order in which they are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.aggregators.vote.ballots import Ballots, Weights
from composer.aggregators.vote.quorum import Staying

if TYPE_CHECKING:
    from composer.aggregators.vote.ballots import Bools, Floats, Ints

SHARES = tuple(step / 50 for step in range(1, 51))
"""Leads whose probability is tried as the threshold; the last, 1, loses nothing."""

MIN_SLOPE = 1e-3
"""A larger lead is never less sure."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to end votes, and what it brings on rows that the weights were not fitted on."""

    staying: Staying
    threshold: float
    """The probability of staying that is sure enough."""
    accuracy: float
    """Of votes that it ends."""
    calls: float
    """Experts that were waited for, as a share of all."""


@dataclass(frozen=True, eq=False)
class Course:
    """How votes go on while experts answer one by one, the heaviest first."""

    share: Floats
    """[n, m]: the winner's lead after each expert, as a share of the weights still out."""
    is_right: Bools
    """[n, m]: whether that winner is right."""
    stays: Bools
    """[n, m]: whether that winner is the last one too."""

    def calls(self, threshold: float = 1) -> Floats:
        """After how many experts [n] the lead is such a share of what is out; 1: the exact rule."""
        return (_stop(self, threshold) + 1).astype(np.float64)


def run_course(ballots: Ballots, weights: Weights) -> Course:
    """The course of each query's vote."""
    n, m = len(ballots.category), len(ballots.experts)
    rows = np.arange(n)
    cells = np.full((n, m), -1)
    cells[ballots.query[ballots.vote_answer], ballots.vote_expert] = ballots.vote_answer
    sizes = np.abs(weights.experts)
    orders = np.argsort(-sizes, axis=1, kind="stable")
    out = np.cumsum(np.take_along_axis(sizes, orders, axis=1)[:, ::-1], axis=1)[:, ::-1]
    out = np.concatenate([out[:, 1:], np.zeros((len(out), 1))], axis=1)[ballots.category]
    order = orders[ballots.category]
    scores = np.full(len(ballots.query), -np.inf)
    # Of open answers there are too many for a table, and none has a constant.
    has_constants = bool(weights.options.any())
    newcomers = np.tile(weights.options, (n, 1)) if has_constants else np.zeros((n, 1))
    share, is_right = np.zeros((n, m)), np.zeros((n, m), np.bool_)
    winner = np.zeros((n, m), np.int64)
    for step in range(m):
        answer = cells[rows, order[:, step]]
        has_voted = answer >= 0
        voted = answer[has_voted]
        option = ballots.option[voted]
        before = np.where(np.isinf(scores[voted]), weights.options[option], scores[voted])
        added = weights.experts[ballots.category, order[:, step]][has_voted]
        scores[voted] = before + added
        if has_constants:
            newcomers[rows[has_voted], option] = -np.inf
        lead, winner[:, step] = _leads(ballots, scores, newcomers)
        is_right[:, step] = np.append(ballots.right > 0, False)[winner[:, step]]
        share[:, step] = np.where(out[:, step] > 0, lead / np.maximum(out[:, step], 1e-12), np.inf)
    return Course(share, is_right, winner == winner[:, -1:])


def fit_staying(course: Course) -> Staying:
    """How likely winners stay whose lead is less than all that is out.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999). Deviation: instead of
    softened targets, three invented winners, one that stays with all the lead there can be, and one
    of each kind that leads by nothing; so no table is too small or too clear.
    """
    import sklearn.linear_model as linear_model  # pyright: ignore[reportMissingTypeStubs]

    is_open = np.isfinite(course.share) & (course.share < 1)
    leads = np.concatenate([course.share[is_open], [1.0, 0.0, 0.0]])
    stays = np.concatenate([course.stays[is_open], [True, True, False]])
    sklearn: Any = linear_model
    model = sklearn.LogisticRegression(C=1e6, max_iter=1000).fit(leads[:, None], stays)
    slope = max(MIN_SLOPE, float(model.coef_[0, 0]))
    return Staying(round(float(model.intercept_[0]), 6), round(slope, 6))


def choose_threshold(held_out: Course, fitted: Course, max_loss: float) -> Stopping:
    """The lowest threshold that loses no more than is allowed, and what it brings.

    The loss and one standard error of it must be within `max_loss` on held-out rows, and also under
    the weights that will be used: leads come in few sizes, and these are theirs.

    Args:
        held_out: Under weights that the rows had no part in.
        fitted: Under the weights that the threshold is for.
        max_loss: Of the full vote's accuracy.
    """
    staying = fit_staying(held_out)
    share = next(
        share
        for share in SHARES
        if share == 1 or max(_loss(held_out, share), _loss(fitted, share)) <= max_loss
    )
    n, m = held_out.share.shape
    accuracy = float(held_out.is_right[np.arange(n), _stop(held_out, share)].mean())
    calls = float(held_out.calls(share).mean()) / m
    return Stopping(staying, staying.probability(share), accuracy, calls)


def _stop(course: Course, threshold: float) -> Ints:
    """After which expert, from 0, each vote [n] ends."""
    is_over = course.share >= threshold
    is_over[:, -1] = True
    return is_over.argmax(axis=1)


def _loss(course: Course, threshold: float) -> float:
    """The full vote's accuracy less that of the votes so ended, and one standard error."""
    n = len(course.share)
    ended = course.is_right[np.arange(n), _stop(course, threshold)]
    loss = course.is_right[:, -1].astype(np.float64) - ended
    return float(loss.mean() + loss.std() / np.sqrt(n))


def _leads(ballots: Ballots, scores: Floats, newcomers: Floats) -> tuple[Floats, Ints]:
    """Each winner's lead [n] over the next answer, given or new, and which of the N it is.

    Args:
        ballots: Whose votes are counted.
        scores: Each answer's [N]; -inf: not given yet.
        newcomers: What each option [n, v] would begin with; -inf: it is given already.

    Returns:
        The leads, -inf where nobody voted, and the winners; N there.
    """
    n = len(ballots.category)
    top, next_best = np.full(n, -np.inf), np.maximum(0, newcomers.max(axis=1))
    np.maximum.at(top, ballots.query, scores)
    is_top = (scores == top[ballots.query]) & np.isfinite(scores)
    position = np.arange(len(scores))
    winner = np.full(n, len(scores))
    np.minimum.at(winner, ballots.query[is_top], position[is_top])
    is_other = position != winner[ballots.query]
    np.maximum.at(next_best, ballots.query[is_other], scores[is_other])
    return np.where(np.isfinite(top), top - next_best, -np.inf), winner
