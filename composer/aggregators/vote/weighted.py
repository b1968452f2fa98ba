"""Votes are weighed by what recorded outcomes say of the voters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from composer.aggregators.vote.election import elect, make_answer
from composer.aggregators.vote.quorum import Quorum, Ties, make_rules
from composer.aggregators.vote.tally import UNIT, posterior
from composer.aggregators.vote.weights import Kind, VoteWeights, load_weights
from composer.errors import ConfigError
from composer.experts import Expert
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Query, Selection


class WeightedVoteAggregator:
    """Adds up the weights of an answer's voters; the heaviest answer wins.

    `vote-weighted` weighs a vote by the log-odds of its voter's accuracy, `vote-learned` by a
    conditional logit over the options; both by category where it is known. How an expert is asked,
    replaced, and counted is as in `VoteAggregator`. An expert that the weights do not know weighs
    nothing, not what a mean one would: its vote is told, adds nothing, and `details` names it.

    Source: `composer.aggregators.vote.log_odds` and `composer.aggregators.vote.logit`.
    """

    needs: frozenset[AggregatorNeed] = frozenset()
    experts: frozenset[str] = frozenset()

    def __init__(
        self,
        weights: VoteWeights,
        *,
        ties: Ties = "rank",
        quorum: Quorum | None = None,
        threshold: float | None = None,
    ) -> None:
        """Store what was learned, and the settings.

        Args:
            weights: What was learned.
            ties: See `VoteAggregator`.
            quorum: See `VoteAggregator`.
            threshold: For `posterior`: how likely the winner must be to stay; None: as likely as
                was fitted.

        Raises:
            ConfigError: The threshold is out of range, or nothing reads it.
        """
        self.name = weights.kind
        self._weights = weights
        self._hidden, self._known = (
            make_rules(
                self.name,
                quorum,
                threshold,
                ties,
                staying=variant.staying,
                default=variant.threshold,
            )
            for variant in (weights.hidden, weights.known or weights.hidden)
        )

    @property
    def summary(self) -> Mapping[str, Any]:
        """See `FittedAggregator.summary`."""
        return {**self._weights.settings, **self._weights.held_out}

    def save(self, folder: Path) -> None:
        """See `FittedAggregator.save`."""
        self._weights.save(folder)

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: refuses weights that know none of the experts."""
        if not self._weights.experts & experts.keys():
            raise ConfigError(
                f"aggregator {self.name!r}: knows none of {sorted(experts)} but "
                f"{sorted(self._weights.experts)}; fit it on outcomes of these experts"
            )

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        answer_type = query.answer_type or self._weights.answer_type
        weighing = self._weights.weighing(query.category, answer_type)
        variant = self._weights.variant(query.category)
        election = yield from elect(
            query,
            selection,
            tools,
            answer_type=answer_type,
            weighing=weighing,
            rules=self._hidden if variant is self._weights.hidden else self._known,
        )
        answer = make_answer(self.name, query, election, weighing, answer_type, variant.staying)
        experts = [outcome.expert for outcome in election.outcomes]
        probability = posterior(election.tally, weighing)
        evidence = {
            "weights": {expert: weighing.weight(expert) / UNIT for expert in experts},
            "posterior": probability,
            "unknown": tuple(expert for expert in experts if expert not in self._weights.experts),
        }
        reason = (
            f"{answer.reason}; right with a probability of {probability[election.tally.winner]:.2f}"
        )
        return replace(answer, reason=reason, details={**answer.details, **evidence})


def read_weighted_vote(
    *,
    from_: str | None = None,
    ties: Ties = "rank",
    quorum: Quorum | None = None,
    threshold: float | None = None,
) -> WeightedVoteAggregator:
    """A vote weighed by log-odds, from the folder that it was saved in.

    Raises:
        ConfigError: None is named, it holds no such vote, or a setting is out of range.
    """
    return _read("vote-weighted", from_, ties, quorum, threshold)


def read_learned_vote(
    *,
    from_: str | None = None,
    ties: Ties = "rank",
    quorum: Quorum | None = None,
    threshold: float | None = None,
) -> WeightedVoteAggregator:
    """A vote weighed by a conditional logit, from the folder that it was saved in.

    Raises:
        ConfigError: None is named, it holds no such vote, or a setting is out of range.
    """
    return _read("vote-learned", from_, ties, quorum, threshold)


def _read(
    kind: Kind, folder: str | None, ties: Ties, quorum: Quorum | None, threshold: float | None
) -> WeightedVoteAggregator:
    if folder is None:
        raise ConfigError(
            f"aggregator {kind!r}: 'from' names no weights; "
            f"fit some with `composer fit --aggregator {kind} --outcomes OUTCOMES --save DIR` "
            "and set 'from' to DIR"
        )
    weights = load_weights(Path(folder), kind)
    return WeightedVoteAggregator(weights, ties=ties, quorum=quorum, threshold=threshold)
