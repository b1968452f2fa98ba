"""Three experts and their replies: what drives a flow without an engine or an event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from composer.flow import FlowRun, complete_answer
from composer.protocols import Aggregator
from composer.types import (
    Answer,
    Choice,
    Completion,
    Evidence,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
    Selection,
    TokenLogprob,
)


@dataclass(frozen=True)
class CharacterTools:
    """Every character is a token; experts not named have no known limit."""

    limits: Mapping[str, int] = field(default_factory=dict[str, int])

    def count(self, expert: str, messages: Sequence[Message]) -> int:
        return sum(len(m.content) for m in messages)

    def limit(self, expert: str) -> int | None:
        return self.limits.get(expert)


@dataclass(frozen=True)
class Ran:
    """What a flow asked in its order, and the answer as its driver completes it."""

    requests: tuple[Request, ...]
    answer: Answer


@dataclass(frozen=True)
class Drive:
    """Runs an aggregator over a table of replies; an expert without one is unavailable."""

    ranking: tuple[str, ...] = ("ann", "ben", "cas", "dan")
    k: int = 3

    def query(self, text: str = "What is 6 x 7?") -> Query:
        return Query("q1", (Message("user", text),))

    def tools(self, limits: Mapping[str, int] | None = None) -> CharacterTools:
        return CharacterTools(limits or {})

    def selection(self, k: int | None = None, ranking: Sequence[str] | None = None) -> Selection:
        ranking = self.ranking if ranking is None else tuple(ranking)
        choices = tuple(
            Choice(expert, None, None, lambda: Evidence("as told"))
            for expert in ranking[: k or self.k]
        )
        quality = [0.5] * len(ranking)
        return Selection("q1", "told", choices, tuple(ranking), tuple(ranking), quality, "as told")

    def __call__(
        self,
        aggregator: Aggregator,
        replies: Mapping[str, str],
        *,
        query: Query | None = None,
        selection: Selection | None = None,
        limits: Mapping[str, int] | None = None,
        last_first: bool = False,
    ) -> Ran:
        """Run the flow to its end.

        A reply stands under a request's purpose and expert ("aggregate ann") or its expert alone.
        With `last_first` the outcomes of an ask are delivered one by one and backwards.
        """
        query, selection = query or self.query(), selection or self.selection()
        run = FlowRun(aggregator.combine(query, selection, self.tools(limits)))
        requests = list(run.start())
        while not run.is_done:
            outcomes = [reply(request, replies) for request in run.waiting]
            if last_first:
                for outcome in reversed(outcomes):
                    requests += run.deliver([outcome])
            else:
                requests += run.deliver(outcomes)
        return Ran(
            tuple(requests),
            complete_answer(run.result, selection, [o for sent in run.history for o in sent]),
        )


def reply(request: Request, replies: Mapping[str, str]) -> Outcome:
    """The completion or failure that a table of replies has for a request."""
    text = replies.get(f"{request.purpose} {request.expert}", replies.get(request.expert))
    if text is None or text == "fails":
        return Failure(request.id, request.expert, "unavailable", "it is gone")
    said = None if request.logprobs is None else (TokenLogprob(text, -0.1, ((text, -0.1),)),)
    sample = Sample(text, "stop", completion_tokens=len(text), logprobs=said)
    samples = (sample,) * (request.sampling.n or 1)
    return Completion(request.id, request.expert, samples, prompt_tokens=7)


@pytest.fixture
def drive() -> Drive:
    """Ann, Ben and Cas are chosen; Dan is the fallback."""
    return Drive()
