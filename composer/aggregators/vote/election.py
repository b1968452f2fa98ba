"""One vote, from asking the experts to the answer: what every kind of vote shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from composer.aggregators.vote.quorum import Rules, Staying, is_decided, lead_share
from composer.aggregators.vote.tally import UNIT, Tally, Weighing, count
from composer.answers import completion_answer
from composer.errors import AggregationError
from composer.flow import ask_many, check_length
from composer.protocols import Flow, Tools
from composer.types import (
    Answer,
    AnswerType,
    Ask,
    Completion,
    Failure,
    Outcome,
    Query,
    Request,
    Selection,
)


@dataclass(frozen=True, slots=True)
class Election:
    """How a vote went."""

    outcomes: tuple[Outcome, ...]
    """Of all that were waited for, best ranked first."""
    tally: Tally
    unanswered: tuple[str, ...]
    """Voters that were not waited for, best ranked first."""


def elect(
    query: Query,
    selection: Selection,
    tools: Tools,
    *,
    answer_type: AnswerType,
    weighing: Weighing,
    rules: Rules,
) -> Flow[Election]:
    """Hold a vote.

    Without a quorum an expert that fails is replaced by the next of the ranking. With one all
    choices are asked at once, the heaviest first, since the others will be done without soonest
    then; and nobody is replaced.

    Args:
        query: What is asked.
        selection: The voters, and who replaces them.
        tools: The driver's.
        answer_type: How an answer is read.
        weighing: What each vote adds.
        rules: When the vote ends, and what becomes of a tie.

    Raises:
        AggregationError: Nobody voted, or it is a tie and a tie is no answer.
    """
    rank = {expert: place for place, expert in enumerate(selection.ranking)}
    chosen = [choice.expert for choice in selection.choices]
    said: dict[str, Outcome] = {}

    def in_order() -> tuple[Outcome, ...]:
        return tuple(said[expert] for expert in sorted(said, key=rank.__getitem__))

    def unanswered() -> tuple[str, ...]:
        return tuple(expert for expert in chosen if expert not in said)

    def is_enough() -> bool:
        votes = _read_votes(in_order(), answer_type)
        if not votes:
            return not unanswered()
        tally = count(votes, weighing)
        return is_decided(tally, unanswered(), weighing, rank=rank, rules=rules)

    if rules.share is None:
        yield from _ask_replacing(query, selection, tools, said)
    else:
        heaviest_first = sorted(chosen, key=lambda expert: -abs(weighing.weight(expert)))
        yield from _ask_until(query, heaviest_first, tools, said, is_enough)
    votes = _read_votes(in_order(), answer_type)
    if not votes:
        raise AggregationError(
            f"no expert gave an answer of type {answer_type!r}: {_describe(in_order())}"
        )
    tally = count(votes, weighing)
    if tally.tied and rules.ties == "abstain":
        answers = (tally.winner, *tally.tied)
        tie = "; ".join(f"{answer!r} by {', '.join(tally.voters[answer])}" for answer in answers)
        raise AggregationError(f"the vote is tied: {tie}; set 'ties' to 'rank' to have an answer")
    return Election(in_order(), tally, unanswered())


def make_answer(
    name: str,
    query: Query,
    election: Election,
    weighing: Weighing,
    answer_type: AnswerType,
    staying: Staying,
) -> Answer:
    """The answer of an aggregator of that name, in the words of the winner's heaviest voter."""
    tally, unanswered = election.tally, election.unanswered
    voters = tally.voters[tally.winner]
    completions = {o.expert: o for o in election.outcomes if isinstance(o, Completion)}
    failures = tuple(o for o in election.outcomes if isinstance(o, Failure))
    voted = {expert for experts in tally.voters.values() for expert in experts}
    speaker = max(voters, key=weighing.weight)
    reason = f"{len(voters)} of {len(voted)} votes"
    if tally.tied:
        reason += f", tied with {', '.join(map(repr, tally.tied))}: {voters[0]} ranks highest"
    stays = staying.probability(lead_share(tally, unanswered, weighing))
    if unanswered:
        reason += f", without waiting for {', '.join(unanswered)}: it stays the winner"
    if stays < 1:
        reason += f" with a probability of {stays:.2f}"
    details: dict[str, Any] = {
        "answer_type": answer_type,
        "tally": dict(tally.voters),
        "scores": {answer: score / UNIT for answer, score in tally.scores.items()},
        "abstained": tuple(expert for expert in completions if expert not in voted),
        "failed": tuple(failure.expert for failure in failures),
        "stopped_early": bool(unanswered),
        "stays": stays,
        "unanswered": unanswered,
    }
    return Answer(
        query_id=query.id,
        text=completions[speaker].text if answer_type == "text" else tally.winner,
        expert=speaker,
        aggregator=name,
        finish_reason=completions[speaker].samples[0].finish_reason,
        reason=reason,
        details=details,
        failures=failures,
    )


def _request(query: Query, expert: str) -> Request:
    return Request(f"{query.id}/propose/{expert}", expert, query.messages)


def _ask_replacing(
    query: Query, selection: Selection, tools: Tools, said: dict[str, Outcome]
) -> Flow[None]:
    """Ask the choices at once, then the ranking in place of whoever failed."""
    n_missing = len(selection.choices)
    while n_missing and len(said) < len(selection.ranking):
        experts = selection.ranking[len(said) : len(said) + n_missing]
        outcomes = yield from ask_many([_request(query, expert) for expert in experts], tools)
        said.update({outcome.expert: outcome for outcome in outcomes})
        n_missing += -len(outcomes) + sum(isinstance(o, Failure) for o in outcomes)


def _ask_until(
    query: Query,
    experts: Sequence[str],
    tools: Tools,
    said: dict[str, Outcome],
    is_enough: Callable[[], bool],
) -> Flow[None]:
    """Ask all at once, in the order given, and wait until it is enough."""
    requests: list[Request] = []
    for request in (_request(query, expert) for expert in experts):
        too_long = check_length(request, tools)
        if too_long is None:
            requests.append(request)
        else:
            said[request.expert] = too_long
    ask = Ask(tuple(requests), wait="any")
    while not is_enough():
        outcomes = yield ask
        said.update({outcome.expert: outcome for outcome in outcomes})
        ask = Ask(wait="any")


def _read_votes(outcomes: Sequence[Outcome], answer_type: AnswerType) -> dict[str, str]:
    """Each voter's answer; who failed or gave none of the type abstains."""
    votes: dict[str, str] = {}
    for outcome in outcomes:
        if isinstance(outcome, Completion):
            answer = completion_answer(outcome.samples[0], answer_type)
            if answer is not None:
                votes[outcome.expert] = answer
    return votes


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
