"""Flows without I/O, and the core that every driver of a flow shares.

A flow is a generator that yields `Ask`s and is sent outcomes. `FlowRun` holds one flow in
progress: what it waits for, what has come back, and its result. A driver starts it, runs the
requests it hands out however it likes, and delivers their outcomes:

    run = FlowRun(flow)
    requests = run.start()
    while not run.is_done:
        requests = run.deliver(some outcomes of what was handed out)
    run.result
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from composer.errors import AggregationError
from composer.protocols import Flow, Tools
from composer.types import (
    Answer,
    Ask,
    Completion,
    Failure,
    Outcome,
    Request,
    RequestId,
    Selection,
)

T = TypeVar("T")


class FlowRun(Generic[T]):
    """One flow in progress; no I/O, so any driver can hold it."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self._wait = "all"
        self._asked: dict[RequestId, Request] = {}
        self._arrived: dict[RequestId, Outcome] = {}
        self._unanswered: dict[RequestId, Request] = {}
        self._result: tuple[T] | None = None
        self.history: list[tuple[Outcome, ...]] = []
        """All that was sent, in order, together what came together: what a resumed run replays."""

    @property
    def is_done(self) -> bool:
        """Whether the flow has returned."""
        return self._result is not None

    @property
    def result(self) -> T:
        """What the flow returned."""
        assert self._result is not None, "the flow has not returned"
        return self._result[0]

    @property
    def waiting(self) -> tuple[Request, ...]:
        """Requests handed out whose outcomes have not been delivered, in the order asked.

        Once the flow is done these are to be withdrawn: nobody wants their outcomes.
        """
        return tuple(r for i, r in self._unanswered.items() if i not in self._arrived)

    def request(self, request_id: RequestId) -> Request:
        """The request asked under this id."""
        return self._asked[request_id]

    def start(self) -> tuple[Request, ...]:
        """Run the flow to its first ask and return the requests to be run."""
        return self._advance(None)

    def deliver(self, outcomes: Sequence[Outcome]) -> tuple[Request, ...]:
        """Take in outcomes, in the order given, and return the requests asked in reply.

        Outcomes of a flow that is done are dropped: nobody waits for them.
        """
        if self.is_done:
            return ()
        for outcome in outcomes:
            assert outcome.request_id in self._unanswered, f"not asked: {outcome.request_id!r}"
            self._arrived[outcome.request_id] = outcome
        if not self._arrived or (self._wait == "all" and self.waiting):
            return ()
        order = self._unanswered if self._wait == "all" else self._arrived
        sent = tuple(self._arrived[i] for i in order if i in self._arrived)
        for outcome in sent:
            del self._unanswered[outcome.request_id]
        self._arrived.clear()
        self.history.append(sent)
        return self._advance(sent)

    def close(self) -> None:
        """End the flow where it stands; what it waits for is to be withdrawn."""
        self._flow.close()

    def _advance(self, outcomes: Sequence[Outcome] | None) -> tuple[Request, ...]:
        try:
            ask = next(self._flow) if outcomes is None else self._flow.send(outcomes)
        except StopIteration as stop:
            self._result = (stop.value,)
            return ()
        for request in ask.requests:
            assert request.id not in self._asked, f"a flow asked twice under {request.id!r}"
            self._asked[request.id] = request
            self._unanswered[request.id] = request
        assert self._unanswered, "a flow waits for nothing"
        self._wait = ask.wait
        return ask.requests


def ask_one(request: Request, tools: Tools) -> Flow[Outcome]:
    """Ask one expert once; a prompt longer than its context fails here, without being sent."""
    too_long = check_length(request, tools)
    if too_long is not None:
        return too_long
    (outcome,) = yield Ask((request,))
    return outcome


def ask_many(requests: Sequence[Request], tools: Tools) -> Flow[tuple[Outcome, ...]]:
    """Ask several experts at once and wait for all; outcomes come in the order of the requests."""
    early = {r.id: failure for r in requests if (failure := check_length(r, tools)) is not None}
    rest = tuple(r for r in requests if r.id not in early)
    outcomes: dict[RequestId, Outcome] = dict(early)
    if rest:
        outcomes |= {o.request_id: o for o in (yield Ask(rest))}
    return tuple(outcomes[r.id] for r in requests)


def ask_ranked(
    selection: Selection, make: Callable[[str], Request], tools: Tools
) -> Flow[tuple[Completion, tuple[Failure, ...]]]:
    """Ask the selection's experts one after the other, down its ranking, until one answers.

    Args:
        selection: Whose ranking to walk.
        make: The request for an expert; its id must name the expert.
        tools: The driver's.

    Returns:
        The first completion, and the failures before it.

    Raises:
        AggregationError: All failed; the message names each failure.
    """
    failures: list[Failure] = []
    for expert in selection.ranking:
        outcome = yield from ask_one(make(expert), tools)
        if isinstance(outcome, Completion):
            return outcome, tuple(failures)
        failures.append(outcome)
    raise AggregationError(f"no expert answered: {describe_failures(failures)}")


def check_length(request: Request, tools: Tools) -> Failure | None:
    """The failure of a prompt that leaves no room for a token in the expert's context."""
    limit = tools.limit(request.expert)
    if limit is None:
        return None
    tokens = tools.count(request.expert, request.messages)
    if tokens < limit:
        return None
    return Failure(
        request.id,
        request.expert,
        "too_long",
        f"the prompt has {tokens} tokens and the context of {request.expert!r} is {limit}; "
        "shorten the prompt or raise engine_args.max_model_len",
    )


def describe_failures(failures: Sequence[Failure]) -> str:
    """Each failure in a few words, in the order given."""
    return "; ".join(f"{f.expert}: {f.message}" for f in failures)


def complete_answer(answer: Answer, selection: Selection, outcomes: Sequence[Outcome]) -> Answer:
    """The answer with the accounts of all outcomes that its flow was sent or refused itself."""
    completions = tuple(o for o in outcomes if isinstance(o, Completion))
    failures = {o.request_id: o for o in outcomes if isinstance(o, Failure)}
    failures |= {f.request_id: f for f in answer.failures}
    together = [expert for completion in completions for expert in completion.peers]
    asked = dict.fromkeys([*(o.expert for o in (*outcomes, *failures.values())), *together])
    return replace(
        answer,
        selection=selection,
        completions=completions,
        failures=tuple(failures.values()),
        asked=tuple(asked),
        saved=tuple(c.expert for c in selection.choices if c.expert not in asked),
        prompt_tokens=sum(c.prompt_tokens for c in completions),
        completion_tokens=sum(c.completion_tokens for c in completions),
        cost_usd=sum(c.cost_usd for c in completions),
    )
