"""The selected experts vote: the answer that most of them give wins."""

from __future__ import annotations

from collections.abc import Mapping

from composer.aggregators.vote.election import elect, make_answer
from composer.aggregators.vote.quorum import Quorum, Staying, Ties, make_rules
from composer.aggregators.vote.tally import EQUAL
from composer.experts import Expert
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, AnswerType, Query, Selection

STAYING = Staying(intercept=0.0625, slope=4.7231)
"""Fitted on equal votes of eight small experts for mmlu_pro's 8,490 train rows."""
THRESHOLD = 0.9
"""How likely the winner must be to stay, unless told."""


class VoteAggregator:
    """Counts typed answers, one vote an expert.

    An expert that fails is replaced by the next of the ranking, so that there are as many voters as
    choices while the ranking lasts. One that gives no answer of the type abstains, and is not
    counted. With a quorum nobody is replaced, and the answer may come before the last vote; a text
    is then in the words of the best-ranked voter that was waited for.

    Source: majority voting over extracted answers, as in Wang et al., "Self-Consistency Improves
    Chain of Thought Reasoning in Language Models" (arXiv 2203.11171), section 2; there over samples
    of one model, here over experts, of whose samples the first counts.
    """

    name = "vote"
    needs: frozenset[AggregatorNeed] = frozenset()
    experts: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        answer_type: AnswerType = "choice",
        ties: Ties = "rank",
        quorum: Quorum | None = None,
        threshold: float | None = None,
    ) -> None:
        """Store the settings.

        Args:
            answer_type: How an answer is read where the query does not say.
            ties: `rank`: to the answer whose best voter ranks highest; `abstain`: no answer, which
                is an error.
            quorum: Which votes are not waited for. `exact`: those that cannot change the answer;
                `posterior`: those that would have to be one-sided to.
            threshold: For `posterior`: how likely the winner must be to stay; None: `THRESHOLD`.

        Raises:
            ConfigError: The threshold is out of range, or nothing reads it.
        """
        self._answer_type: AnswerType = answer_type
        self._rules = make_rules(
            self.name, quorum, threshold, ties, staying=STAYING, default=THRESHOLD
        )

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: there is nothing to refuse."""

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        answer_type = query.answer_type or self._answer_type
        election = yield from elect(
            query, selection, tools, answer_type=answer_type, weighing=EQUAL, rules=self._rules
        )
        return make_answer(self.name, query, election, EQUAL, answer_type, STAYING)
