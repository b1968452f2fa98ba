"""The selected experts vote: the answer that most of them give wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.answers import completion_answer
from composer.errors import AggregationError
from composer.experts import Expert
from composer.flow import ask_many
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import (
    Answer,
    AnswerType,
    Completion,
    Failure,
    Outcome,
    Query,
    Request,
    Selection,
)


class VoteAggregator:
    """Counts typed answers, one vote an expert.

    An expert that fails is replaced by the next of the ranking, so that there are as many voters as
    choices while the ranking lasts. One that gives no answer of the type abstains. Among answers
    with equally many votes the one wins whose best voter ranks highest.

    Source: majority voting over extracted answers, as in Wang et al., "Self-Consistency Improves
    Chain of Thought Reasoning in Language Models" (arXiv 2203.11171), section 2; there over samples
    of one model, here over experts, of whose samples the first counts.
    """

    name = "vote"
    needs: frozenset[AggregatorNeed] = frozenset()
    experts: frozenset[str] = frozenset()

    def __init__(self, *, answer_type: AnswerType = "choice") -> None:
        self._answer_type: AnswerType = answer_type

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: there is nothing to refuse."""

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        answer_type = query.answer_type or self._answer_type
        outcomes = yield from _ask_voters(query, selection, tools)
        completions = [o for o in outcomes if isinstance(o, Completion)]
        failures = tuple(o for o in outcomes if isinstance(o, Failure))
        votes: dict[str, list[Completion]] = {}
        abstained: list[str] = []
        for completion in completions:
            answer = completion_answer(completion.samples[0], answer_type)
            if answer is None:
                abstained.append(completion.expert)
            else:
                votes.setdefault(answer, []).append(completion)
        if not votes:
            raise AggregationError(
                f"no expert gave an answer of type {answer_type!r}: {_describe(outcomes)}"
            )
        # Answers stand in the order of their best voters, and sorting keeps it among equals.
        ordered = sorted(votes, key=lambda answer: -len(votes[answer]))
        winner, voters = ordered[0], votes[ordered[0]]
        tied = [answer for answer in ordered[1:] if len(votes[answer]) == len(voters)]
        n_votes = len(completions) - len(abstained)
        reason = f"{len(voters)} of {n_votes} votes"
        if tied:
            reason += f", tied with {', '.join(map(repr, tied))}: {voters[0].expert} ranks highest"
        return Answer(
            query_id=query.id,
            text=voters[0].text if answer_type == "text" else winner,
            expert=voters[0].expert,
            aggregator=self.name,
            finish_reason=voters[0].samples[0].finish_reason,
            reason=reason,
            details={
                "answer_type": answer_type,
                "tally": {answer: tuple(v.expert for v in votes[answer]) for answer in ordered},
                "abstained": tuple(abstained),
                "failed": tuple(failure.expert for failure in failures),
            },
            failures=failures,
        )


def _ask_voters(query: Query, selection: Selection, tools: Tools) -> Flow[list[Outcome]]:
    """Ask the choices at once, then the ranking in place of whoever failed; in order of rank."""
    outcomes: list[Outcome] = []
    n_missing = len(selection.choices)
    while n_missing and len(outcomes) < len(selection.ranking):
        experts = selection.ranking[len(outcomes) : len(outcomes) + n_missing]
        requests = [Request(f"{query.id}/propose/{e}", e, query.messages) for e in experts]
        asked = yield from ask_many(requests, tools)
        outcomes += asked
        n_missing += -len(asked) + sum(isinstance(o, Failure) for o in asked)
    return outcomes


def _describe(outcomes: Sequence[Outcome]) -> str:
    """What each expert said, in a few words."""
    return "; ".join(
        f"{o.expert}: {o.message}"
        if isinstance(o, Failure)
        else f"{o.expert} said {_first_words(o.text)!r}"
        for o in outcomes
    )


def _first_words(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60].rstrip() + "..."
