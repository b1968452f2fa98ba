"""Votes on typed answers: the majority's, and those that recorded outcomes have weighed."""

from composer.aggregators.vote.majority import VoteAggregator
from composer.aggregators.vote.weighted import (
    WeightedVoteAggregator,
    read_learned_vote,
    read_weighted_vote,
)

__all__ = ["VoteAggregator", "WeightedVoteAggregator", "read_learned_vote", "read_weighted_vote"]
