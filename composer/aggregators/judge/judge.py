"""Experts propose, or one of them several times, and a judge picks the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from composer.aggregators.judge.proposers import candidates, proposal_names, proposers
from composer.aggregators.judge.ranking import Ranking, rank
from composer.aggregators.judge.settings import Mode, check_judge, draws_differ, make_judge
from composer.aggregators.proposals import Proposals, make_answer, read_proposals
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many, ask_ranked
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Query, Request, Sampling, Selection


class JudgeAggregator:
    """Takes the proposal that a judge likes best, unchanged.

    A judge is named, never taken from the ranking: that says who answers well, not who judges well.
    It proposes nothing itself unless `judge_self` is set; the next of the ranking does in its
    place. Where it fails or gives nothing usable, the best-ranked proposal is the answer, and
    `reason` and `details` say so.

    Calls, of c proposals: one for each of k proposers (or one for n samples, c = n); then c,
    pointwise, or two for each comparison, pairwise; see `judge_calls`.

    Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (arXiv
    2306.05685), sections 3.1 and 3.4: single answers are graded, or pairs compared in both orders.
    Deviations: there a pair is won by being preferred in both orders, here also by being preferred
    in one and tied in the other; and only the pairs of a merge sort are compared. Best of n:
    Stiennon et al., "Learning to summarize from human feedback" (arXiv 2009.01325), with a judge in
    place of the reward model.
    """

    name = "judge"

    def __init__(
        self,
        *,
        by: str,
        mode: Mode = "pointwise",
        n: int | None = None,
        temperature: float | None = None,
        rubric: str | None = None,
        samples: int = 1,
        judge_temperature: float | None = None,
        judge_self: bool = False,
        constrained: bool = True,
    ) -> None:
        """Store the settings.

        Args:
            by: The judge.
            mode: `pointwise`: a score from 1 to 10 of each proposal. `pairwise`: a tournament.
            n: Best of n: the first expert that answers proposes n samples, no other does. None:
                each chosen expert proposes.
            temperature: To draw the n samples at; None: the expert's own.
            rubric: What the judge looks at; None: correct, as asked, complete, clear.
            samples: Judgements of each proposal or comparison; their mean counts.
            judge_temperature: To draw these at; None: the judge's own.
            judge_self: Let the judge propose as well, and judge that.
            constrained: Have the judge's engine write nothing but the JSON asked for; false for
                an endpoint that has no JSON schema. What is no such JSON counts as no judgement.

        Raises:
            ConfigError: A value is out of range.
        """
        if n is not None and n < 2:
            raise ConfigError(f"aggregator 'judge': 'n' is {n}; set 2 or more, or leave it out")
        if temperature is not None and (n is None or temperature <= 0):
            raise ConfigError(
                f"aggregator 'judge': 'temperature' is {temperature}; it is for drawing 'n' "
                "samples, so set it above 0 and beside 'n', or leave it out"
            )
        self._judge = make_judge(
            self.name,
            by,
            rubric=rubric,
            samples=samples,
            judge_temperature=judge_temperature,
            constrained=constrained,
            judge_self=judge_self,
        )
        self.needs: frozenset[AggregatorNeed] = frozenset() if n is None else frozenset({"n"})
        self.experts = frozenset({by})
        self._mode: Mode = mode
        self._n = n
        self._temperature = temperature

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`."""
        check_judge(self.name, self._judge, experts)
        for expert in experts.values() if self._n is not None else ():
            if expert.name != self._judge.by and not draws_differ(expert, self._temperature):
                raise ConfigError(
                    f"aggregator 'judge': {self._n} samples of {expert.name!r} at temperature 0 "
                    "are all the same; set 'temperature' above 0 beside 'n'"
                )

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        proposed = yield from self._propose(query, selection, tools)
        proposed.require()
        ranking = yield from rank(self._mode, self._judge, query, proposed.said, tools)
        names = proposal_names(proposed.said)
        details = {
            "by": self._judge.by,
            "mode": self._mode,
            "ranking": tuple(names[i] for i in ranking.order),
            "judged": ranking.why_not is None,
            "silent": proposed.silent,
            "failed": tuple(f.expert for f in proposed.failures),
            **ranking.evidence,
        }
        return make_answer(
            query,
            self.name,
            proposed.said[ranking.order[0]],
            self._reason(names, ranking),
            details,
            (*proposed.failures, *ranking.failures),
        )

    def _propose(self, query: Query, selection: Selection, tools: Tools) -> Flow[Proposals]:
        """One proposal of each proposer, or n of the first candidate that answers."""
        sampling = Sampling(temperature=self._temperature, n=self._n)

        def request(expert: str) -> Request:
            return Request(f"{query.id}/propose/{expert}", expert, query.messages, sampling)

        if self._n is None:
            asked = [request(expert) for expert in proposers(self._judge, selection)]
            return read_proposals((yield from ask_many(asked, tools)))
        ranked = replace(selection, ranking=candidates(self._judge, selection))
        completion, failures = yield from ask_ranked(ranked, request, tools)
        return read_proposals([*failures, completion], samples=None)

    def _reason(self, names: Sequence[str], ranking: Ranking) -> str:
        if ranking.why_not is not None:
            return f"the best-ranked proposal, because {ranking.why_not}"
        best = ranking.order[0]
        score = ranking.scores[best] if ranking.scores else None
        worth = "" if score is None else f", with {score:.3g} of 10"
        return f"{self._judge.by} put {names[best]} first of {len(names)} proposals{worth}"
