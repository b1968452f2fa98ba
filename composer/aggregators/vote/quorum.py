"""When the votes that are still out need not be waited for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from composer.aggregators.vote.tally import Tally, Weighing
from composer.errors import ConfigError

Quorum = Literal["exact", "posterior"]
Ties = Literal["rank", "abstain"]


@dataclass(frozen=True, slots=True)
class Staying:
    """How likely the winner so far is that of the full vote: a logistic curve over its lead.

    P(it stays) = 1 / (1 + exp(-(intercept + slope * lead / weights still out))); from a lead of all
    that is out on it is 1.
    """

    intercept: Annotated[float, Field(allow_inf_nan=False)]
    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    def probability(self, share: float) -> float:
        """That a winner stays whose lead is this share of the weights still out."""
        if share >= 1:
            return 1.0
        return 1 / (1 + math.exp(min(700.0, -(self.intercept + self.slope * share))))

    def share(self, probability: float) -> float:
        """The least share, in [0, 1], at which a winner stays with the probability, in (0, 1]."""
        if probability >= 1:
            return 1.0
        log_odds = math.log(probability / (1 - probability))
        return min(1.0, max(0.0, (log_odds - self.intercept) / self.slope))


@dataclass(frozen=True, slots=True)
class Rules:
    """When a vote ends, and what becomes of a tie."""

    share: float | None
    """How much of what is still out the lead must outweigh; None: all votes are waited for."""
    ties: Ties
    """rank: to the answer whose best voter ranks highest; abstain: there is no answer."""


def make_rules(
    name: str,
    quorum: Quorum | None,
    threshold: float | None,
    ties: Ties,
    *,
    staying: Staying,
    default: float,
) -> Rules:
    """The rules of an aggregator of that name.

    Args:
        name: For the message.
        quorum: As the user set it.
        threshold: As the user set it.
        ties: As the user set it.
        staying: What a threshold is a probability of.
        default: The threshold where the user set none.

    Raises:
        ConfigError: The threshold is out of range, or nothing reads it.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(
            f"aggregator {name!r}: 'threshold' is {threshold}; set one above 0 and up to 1"
        )
    if threshold is not None and quorum != "posterior":
        raise ConfigError(
            f"aggregator {name!r}: 'threshold' is {threshold} and 'quorum' {quorum!r}; "
            "set the quorum to 'posterior', or leave the threshold out"
        )
    sure_enough = default if threshold is None else threshold
    shares = {None: None, "exact": 1.0, "posterior": staying.share(sure_enough)}
    return Rules(shares[quorum], ties)


def is_decided(
    tally: Tally,
    unanswered: Collection[str],
    weighing: Weighing,
    *,
    rank: Mapping[str, int],
    rules: Rules,
) -> bool:
    """Whether the votes that are out are to be done without.

    The winner's lead over every other answer must be the rules' share of all that the votes still
    out could take from it; scores being log-odds, the lead is that of the posterior. A vote takes
    its weight at most: a positive one by being for the other answer, a negative one by being for
    the winner. With a share of 1 the winner is the same, ties included, whatever the unanswered
    say, abstain from or fail at; only where weights below 0 are out may that be found out later
    than it could.

    Args:
        tally: The votes so far.
        unanswered: Experts whose votes are out.
        weighing: What each adds.
        rank: Each expert's place in the selection's ranking, 0 the best.
        rules: With a share.

    Source: the share of 1 is ours. A smaller one ends a vote when the posterior probability that
    its winner stays passes a threshold (`Staying`), as the Beta criterion does of Aggarwal et al.,
    "Let's Sample Step by Step: Adaptive-Consistency" (arXiv 2305.11860), section 3. That takes
    voters for equal and without end; here they differ and those still out are known, so the
    probability is learned from recorded votes.
    """
    if not unanswered:
        return True
    assert rules.share is not None, "a vote without a quorum waits for all"
    reach = rules.share * _still_out(unanswered, weighing)
    last = len(rank)
    ranks_against = [rank[expert] for expert in unanswered if weighing.weight(expert) >= 0]
    winner, *others = tally.voters
    winner_rank = rank[tally.voters[winner][0]]
    rivals = [(_best_newcomer(tally, weighing), last)]
    rivals += [(tally.scores[other], rank[tally.voters[other][0]]) for other in others]
    for score, best_rank in rivals:
        left = tally.scores[winner] - score - reach
        loses_tie = rules.ties == "abstain" or min(best_rank, *ranks_against, last) < winner_rank
        if left < 0 or (left == 0 and loses_tie):
            return False
    return True


def lead_share(tally: Tally, unanswered: Collection[str], weighing: Weighing) -> float:
    """The winner's lead as a share of the weights that are still out; infinite if none are."""
    winner, *others = tally.voters
    rivals = [_best_newcomer(tally, weighing), *(tally.scores[other] for other in others)]
    lead = tally.scores[winner] - max(rivals)
    still_out = _still_out(unanswered, weighing)
    return lead / still_out if still_out else math.inf


def _still_out(unanswered: Collection[str], weighing: Weighing) -> int:
    return sum(abs(weighing.weight(expert)) for expert in unanswered)


def _best_newcomer(tally: Tally, weighing: Weighing) -> int:
    """What the best option that nobody voted for yet begins with, in millionths."""
    new = [b for option, b in weighing.constants.items() if option not in tally.scores]
    return max(0, 0, *new)
