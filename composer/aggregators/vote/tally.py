"""Votes are counted in whole millionths, so that no order of adding them matters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

UNIT = 1_000_000
"""One vote, or one nat of log-odds."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """What each expert's vote adds to the answer it is for, for one query, in millionths."""

    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    default: int = 0
    """The weight of an expert that has none of its own."""
    constants: Mapping[str, int] = field(default_factory=dict[str, int])
    """What an answer has before it is voted for; 0 where it is not named."""
    n_options: int | None = None
    """How many answers there can be; None: all that nobody voted for count as one."""

    def weight(self, expert: str) -> int:
        """The weight of an expert's vote; it may be negative."""
        return self.weights.get(expert, self.default)


EQUAL = Weighing(default=UNIT)
"""One expert, one vote."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Who voted for what, and what that adds up to: the best answer first."""

    voters: Mapping[str, tuple[str, ...]]
    """Each answer's voters, best ranked first. Equal answers stand as their best voters rank."""
    scores: Mapping[str, int]
    """Each answer's constant and the weights of its voters, in millionths."""

    @property
    def winner(self) -> str:
        """The answer with the highest score whose best voter ranks highest."""
        return next(iter(self.voters))

    @property
    def tied(self) -> tuple[str, ...]:
        """The other answers with the winner's score."""
        first, *rest = self.voters
        return tuple(answer for answer in rest if self.scores[answer] == self.scores[first])


def count(votes: Mapping[str, str], weighing: Weighing) -> Tally:
    """Add up votes.

    Args:
        votes: Each voter's answer, one vote at least, the best-ranked voter first.
        weighing: What each adds.
    """
    voters: dict[str, tuple[str, ...]] = {}
    for expert, answer in votes.items():
        voters[answer] = (*voters.get(answer, ()), expert)
    scores = {
        answer: weighing.constants.get(answer, 0) + sum(map(weighing.weight, experts))
        for answer, experts in voters.items()
    }
    # Sorting keeps the order in which the answers stand among equals.
    best_first = sorted(voters, key=lambda answer: -scores[answer])
    return Tally({a: voters[a] for a in best_first}, {a: scores[a] for a in best_first})


def posterior(tally: Tally, weighing: Weighing) -> dict[str, float]:
    """The probability that each answer is right: a softmax over all options there can be.

    An option that nobody voted for has the score 0.
    """
    n_voted = len(tally.scores)
    rest = 1 if weighing.n_options is None else max(0, weighing.n_options - n_voted)
    top = max(0, *tally.scores.values())
    odds = {answer: math.exp((score - top) / UNIT) for answer, score in tally.scores.items()}
    total = math.fsum((*odds.values(), rest * math.exp(-top / UNIT)))
    return {answer: value / total for answer, value in odds.items()}
