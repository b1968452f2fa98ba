"""When the votes that are still out need not be waited for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from composer.aggregators.vote.tally import Tally, Weighing
from composer.errors import ConfigError

Quorum = Literal["exact", "posterior"]
Ties = Literal["rank", "abstain"]


@dataclass(frozen=True, slots=True)
class Rules:
    """When a vote ends, and what becomes of a tie."""

    share: float | None
    """How much of what is still out the lead must outweigh; None: all votes are waited for."""
    ties: Ties
    """rank: to the answer whose best voter ranks highest; abstain: there is no answer."""


def make_rules(
    name: str, quorum: Quorum | None, threshold: float | None, ties: Ties, *, default: float
) -> Rules:
    """The rules of an aggregator of that name.

    Args:
        name: For the message.
        quorum: As the user set it.
        threshold: As the user set it.
        ties: As the user set it.
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
    shares = {None: None, "exact": 1.0, "posterior": default if threshold is None else threshold}
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

    Source: the share of 1 is ours. Smaller ones do what the Beta criterion of Aggarwal et al.,
    "Let's Sample Step by Step: Adaptive-Consistency" (arXiv 2305.11860), section 3, does, which
    ends a vote when the lead is likely real; it takes voters for equal and without end, where here
    they differ and those still out are known.
    """
    if not unanswered:
        return True
    assert rules.share is not None, "a vote without a quorum waits for all"
    reach = rules.share * sum(abs(weighing.weight(expert)) for expert in unanswered)
    last = len(rank)
    ranks_against = [rank[expert] for expert in unanswered if weighing.weight(expert) >= 0]
    winner, *others = tally.voters
    winner_rank = rank[tally.voters[winner][0]]
    new = [b for option, b in weighing.constants.items() if option not in tally.scores]
    rivals = [(max(0, 0, *new), last)]
    rivals += [(tally.scores[other], rank[tally.voters[other][0]]) for other in others]
    for score, best_rank in rivals:
        left = tally.scores[winner] - score - reach
        loses_tie = rules.ties == "abstain" or min(best_rank, *ranks_against, last) < winner_rank
        if left < 0 or (left == 0 and loses_tie):
            return False
    return True
