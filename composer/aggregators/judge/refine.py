"""Experts answer in rounds, with the best answers so far and their scores before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from composer.aggregators.judge.proposers import proposers
from composer.aggregators.judge.ranking import rank_by_score
from composer.aggregators.judge.settings import check_judge, make_judge
from composer.aggregators.proposals import Proposal, Proposals, make_answer, read_proposals
from composer.aggregators.references import fit_references, prompt_budget
from composer.errors import ConfigError
from composer.experts import Expert
from composer.flow import ask_many
from composer.judge_prompts import inject_memory
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import Answer, Message, Query, Request, Selection


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer in the memory that all rounds share."""

    proposal: Proposal
    score: float
    round: int


class RefineAggregator:
    """Takes the best-scored answer of several rounds, unchanged.

    In each round every proposer answers with the memory in view, a judge scores the answers, and
    the memory keeps the best ones of all rounds. A judge that gives nothing usable in a round adds
    nothing; if the memory is empty then, the best-ranked proposal is the answer, and `reason` and
    `details` say so. An expert whose context has no room for the memory answers without it.

    Calls: 2 k for each round; see `refine_calls`.

    Source: Xolver (kagnlp/Xolver at bc2e140), whose intermediate memory keeps the m best answers by
    a judge's score over all iterations. Deviations: no planner gives the experts roles, no store
    of earlier problems is kept, and no verifier rewrites the answer; the score is 1 to 10 instead
    of 0 or 1; an expert sees its own last answer only where that is among the best; and equal
    answers are kept once.
    """

    name = "refine"
    needs: frozenset[AggregatorNeed] = frozenset()

    def __init__(
        self,
        *,
        by: str,
        rounds: int = 1,
        memory: int = 2,
        rubric: str | None = None,
        samples: int = 1,
        judge_temperature: float | None = None,
        judge_self: bool = False,
        constrained: bool = True,
    ) -> None:
        """Store the settings; those not listed are the judge's, see `JudgeAggregator`.

        Args:
            by: The judge.
            rounds: How often the experts answer; 1: they never see a memory.
            memory: How many answers are kept.
            rubric: What the judge looks at.
            samples: Judgements of each answer.
            judge_temperature: To draw these at.
            judge_self: Let the judge propose as well, and judge that.
            constrained: Have the judge's engine write nothing but the JSON asked for.

        Raises:
            ConfigError: A value is out of range.
        """
        for setting, value in (("rounds", rounds), ("memory", memory)):
            if value < 1:
                raise ConfigError(f"aggregator 'refine': {setting!r} is {value}; set 1 or more")
        self._judge = make_judge(
            self.name,
            by,
            rubric=rubric,
            samples=samples,
            judge_temperature=judge_temperature,
            constrained=constrained,
            judge_self=judge_self,
        )
        self.experts = frozenset({by})
        self._rounds = rounds
        self._memory = memory

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`."""
        check_judge(self.name, self._judge, experts)

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        experts = proposers(self._judge, selection)
        proposed = yield from _propose(query, experts, (), 1, tools)
        proposed.require()
        best_ranked = proposed.said[0]
        failures = [*proposed.failures]
        memory: tuple[Entry, ...] = ()
        rounds: list[Mapping[str, Any]] = []
        while True:
            number = len(rounds) + 1
            ranking = yield from rank_by_score(
                self._judge, query, proposed.said, tools, path=f"/{number}"
            )
            rounds.append(ranking.evidence)
            failures += ranking.failures
            memory = self._keep(memory, proposed.said, ranking.scores, number)
            if not memory or number == self._rounds:
                break
            proposed = yield from _propose(query, experts, memory, number + 1, tools)
            failures += proposed.failures
        details = {
            "by": self._judge.by,
            "judged": bool(memory),
            "memory": tuple(
                {"expert": entry.proposal.expert, "round": entry.round, "score": entry.score}
                for entry in memory
            ),
            "rounds": tuple(rounds),
            "failed": tuple(f.request_id.removeprefix(f"{query.id}/") for f in failures),
        }
        chosen = memory[0].proposal if memory else best_ranked
        reason = f"the best-ranked proposal, because {ranking.why_not}"
        if memory:
            reason = (
                f"{self._judge.by} scored {chosen.expert}'s answer of round {memory[0].round} "
                f"highest: {memory[0].score:.3g} of 10"
            )
        return make_answer(query, self.name, chosen, reason, details, failures)

    def _keep(
        self,
        memory: Sequence[Entry],
        said: Sequence[Proposal],
        scores: Sequence[float | None],
        number: int,
    ) -> tuple[Entry, ...]:
        """The best entries of the memory and a round; of equals the earlier, each text once."""
        new = [
            Entry(proposal, score, number)
            for proposal, score in zip(said, scores, strict=True)
            if score is not None
        ]
        best: dict[str, Entry] = {}
        for entry in sorted([*memory, *new], key=lambda entry: -entry.score):
            best.setdefault(entry.proposal.text, entry)
        return tuple(best.values())[: self._memory]


def _propose(
    query: Query, experts: Sequence[str], memory: Sequence[Entry], number: int, tools: Tools
) -> Flow[Proposals]:
    """Ask all experts at once, with the memory before them."""
    requests = [
        Request(f"{query.id}/propose/{e}/{number}", e, _remind(query, memory, e, tools))
        for e in experts
    ]
    return read_proposals((yield from ask_many(requests, tools)))


def _remind(
    query: Query, memory: Sequence[Entry], expert: str, tools: Tools
) -> tuple[Message, ...]:
    """The conversation with as much of the memory as the expert's context has room for."""
    inject = partial(inject_memory, scores=[entry.score for entry in memory])
    texts = [entry.proposal.text for entry in memory]
    budget = prompt_budget(expert, query.messages, tools)
    reminded = fit_references(query.messages, texts, expert, budget, tools, inject=inject)
    return query.messages if reminded is None else reminded
