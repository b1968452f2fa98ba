"""Votes weighed by the log-odds of their voters' accuracy: the naive Bayes vote.

    w_e = log(p_e (K - 1) / (1 - p_e))

K options: a voter errs in K - 1 ways, so agreement of two says more than with a yes or no. Plain
log(p / (1 - p)) would turn the vote of an expert against it that is right on 40 of 100 questions
with ten options each.

Source: Nitzan and Paroush, "Optimal Decision Rules in Uncertain Dichotomous Choice Situations"
(1982), for two options; for K as many that a voter errs in alike. Deviations: p is shrunk, in a
category to the expert's overall accuracy; a power of the weights makes up for voters who err
together; and all weights are scaled by one factor, so that the posterior is calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from composer.aggregators.vote.ballots import Ballots, Weights


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How accuracies become weights."""

    power: float
    """What the sizes of weights are raised to; their sum stays as it is."""
    category: float | None = None
    """Votes at the expert's overall accuracy that a category begins with; None: unused."""


def fit_log_odds(ballots: Ballots, shrinkage: Shrinkage) -> Weights:
    """The weights that accuracies give, not calibrated yet."""
    s, m = len(ballots.categories), len(ballots.experts)
    n_ways = _n_ways(ballots)
    is_known = ballots.is_known[ballots.vote_answer]
    answer, cell = ballots.vote_answer[is_known], ballots.vote_cell[is_known]
    is_right = (ballots.right[answer] > 0).astype(np.float64)
    right = np.bincount(cell, is_right, s * m).reshape(s, m)
    votes = np.bincount(cell, minlength=s * m).reshape(s, m)
    # One vote by chance keeps an expert that was always right, or wrong, from weighing infinitely.
    overall = (right.sum(axis=0) + 1 / (n_ways + 1)) / (votes.sum(axis=0) + 1)
    prior = shrinkage.category or 0.0
    accuracy = np.tile(overall, (s, 1))
    if prior:
        accuracy[1:] = (right[1:] + prior * overall) / (votes[1:] + prior)
    log_odds = np.log(accuracy * n_ways / (1 - accuracy))
    sizes = np.abs(log_odds) ** shrinkage.power
    # So that no power takes the weights out of reach of a factor that calibrates them.
    sizes *= np.abs(log_odds).sum() / max(1e-12, sizes.sum())
    return Weights(np.sign(log_odds) * sizes, np.zeros(len(ballots.options)))


def _n_ways(ballots: Ballots) -> int:
    """In how many ways a voter can err: K - 1; of open answers, as many as a query was given."""
    if ballots.n_options is not None:
        return max(1, ballots.n_options - 1)
    return int(np.bincount(ballots.query).max())
