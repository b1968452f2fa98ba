import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from composer.backends.engine_thread import EngineThread, Event
from composer.errors import ConfigError
from composer.types import Completion, Delta, Failure, Message, Request, RequestId, Sample

LIMIT_S = 10.0
"""After which a step that nobody allows, or an event that never comes, fails its test."""


class SpellingEngine:
    """Says each prompt letter by letter, one letter of every running request a step.

    It takes a step only when it is allowed to, and breaks at a `!`.
    """

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.steps: list[list[RequestId]] = []
        self.aborted: list[RequestId] = []
        self.threads = [threading.get_ident()]
        self.is_closed = False
        self._running: dict[RequestId, tuple[Request, int, bool]] = {}

    def add(self, request: Request, *, stream: bool) -> Failure | None:
        self.threads.append(threading.get_ident())
        if not request.messages:
            return Failure(request.id, request.expert, "refused", "nothing to say")
        self._running[request.id] = (request, 0, stream)
        return None

    def abort(self, ids: Sequence[RequestId]) -> None:
        self.threads.append(threading.get_ident())
        for request_id in ids:
            del self._running[request_id]
            self.aborted.append(request_id)

    def step(self) -> list[Event]:
        self.threads.append(threading.get_ident())
        assert self.allowed.acquire(timeout=LIMIT_S)
        self.steps.append(list(self._running))
        return [event for request_id in tuple(self._running) for event in self._spell(request_id)]

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.is_closed = True

    def _spell(self, request_id: RequestId) -> list[Event]:
        request, said, stream = self._running.pop(request_id)
        text = request.messages[0].content
        if text[said] == "!":
            self._running[request_id] = (request, said, stream)
            raise RuntimeError("it broke\nin the middle")
        events: list[Event] = []
        if stream:
            events.append(Delta(request_id, request.expert, text[said]))
        if said + 1 < len(text):
            self._running[request_id] = (request, said + 1, stream)
        else:
            sample = Sample(text, "stop", len(text))
            events.append(Completion(request_id, request.expert, (sample,), 1))
        return events


@asynccontextmanager
async def started(*, steps: int = 0) -> AsyncGenerator[tuple[EngineThread, SpellingEngine]]:
    """A running thread and its engine, which may take this many steps."""
    made: list[SpellingEngine] = []

    def make() -> SpellingEngine:
        engine = SpellingEngine()
        engine.allowed.release(steps) if steps else None
        made.append(engine)
        return engine

    thread = EngineThread(make)
    async with asyncio.timeout(LIMIT_S):
        await thread.start()
        try:
            yield thread, made[0]
        finally:
            made[0].allowed.release(1000)
            await thread.stop()


def spell(request_id: str, text: str) -> Request:
    return Request(request_id, "ann", (Message("user", text),), final=True)


async def collect(thread: EngineThread, *requests: Request, stream: bool = False) -> list[Event]:
    return [event async for event in thread.generate(requests, stream=stream)]


async def collecting(thread: EngineThread, *requests: Request) -> asyncio.Task[list[Event]]:
    """A task whose requests are with the thread when this returns."""
    task = asyncio.create_task(collect(thread, *requests))
    await asyncio.sleep(0)
    return task


def texts(events: Sequence[Event]) -> dict[RequestId, str]:
    return {e.request_id: e.text for e in events if isinstance(e, Completion)}


async def test_requests_run_together_and_each_has_one_outcome() -> None:
    async with started(steps=10) as (thread, engine):
        events = await collect(thread, spell("a", "xyz"), spell("b", "uv"))
    assert [e.request_id for e in events] == ["b", "a"]
    assert texts(events) == {"a": "xyz", "b": "uv"}
    assert engine.steps == [["a", "b"], ["a", "b"], ["a"]]


async def test_a_request_joins_those_that_run_at_the_next_step() -> None:
    async with started() as (thread, engine):
        early = thread.generate([spell("early", "wxyz")], stream=True)
        first = asyncio.ensure_future(anext(early))
        engine.allowed.release()
        assert await first == Delta("early", "ann", "w")
        late = await collecting(thread, spell("late", "uv"))
        engine.allowed.release(3)
        rest = [event async for event in early]
        engine.allowed.release()
        assert texts([*rest, *await late]) == {"early": "wxyz", "late": "uv"}
    assert ["early", "late"] in engine.steps
    assert len(engine.steps) <= 5


async def test_deltas_go_to_the_call_that_asked_and_add_up_to_the_text() -> None:
    async with started(steps=10) as (thread, _), asyncio.TaskGroup() as calls:
        one = calls.create_task(collect(thread, spell("a", "xyz"), stream=True))
        two = calls.create_task(collect(thread, spell("b", "uv"), stream=False))
    *deltas, outcome = one.result()
    assert "".join(e.text for e in deltas if isinstance(e, Delta)) == "xyz"
    assert isinstance(outcome, Completion)
    assert [type(e) for e in two.result()] == [Completion]


async def test_an_abort_is_acknowledged_with_a_cancelled_failure() -> None:
    async with started() as (thread, engine):
        task = await collecting(thread, spell("a", "xyz"), spell("b", "uv"))
        thread.abort(["a", "unknown"])
        engine.allowed.release(3)
        events = await task
        assert engine.aborted == ["a"]
    (failure,) = [e for e in events if isinstance(e, Failure)]
    assert (failure.request_id, failure.kind, failure.retryable) == ("a", "cancelled", False)
    assert texts(events) == {"b": "uv"}


async def test_closing_the_generator_aborts_what_it_waits_for() -> None:
    async with started() as (thread, engine):
        events = thread.generate([spell("a", "xyz")], stream=True)
        first = asyncio.ensure_future(anext(events))
        engine.allowed.release()
        await first
        assert isinstance(events, AsyncGenerator)
        await events.aclose()
        engine.allowed.release(5)
        assert texts(await collect(thread, spell("b", "u"))) == {"b": "u"}
    assert engine.aborted == ["a"]


async def test_a_request_that_the_engine_refuses_fails_alone() -> None:
    async with started(steps=10) as (thread, _):
        events = await collect(thread, Request("a", "ann", ()), spell("b", "uv"))
    assert events[0] == Failure("a", "ann", "refused", "nothing to say")
    assert texts(events) == {"b": "uv"}


async def test_an_exception_fails_what_runs_and_the_thread_lives_on() -> None:
    async with started(steps=10) as (thread, engine):
        failed = await collect(thread, spell("a", "x!"), spell("b", "uvw"))
        again = await collect(thread, spell("c", "z"))
    for event in failed:
        assert isinstance(event, Failure)
        assert (event.kind, event.retryable) == ("unavailable", True)
        assert event.message == "its engine failed: it broke"
    assert sorted(e.request_id for e in failed) == ["a", "b"]
    assert engine.aborted == ["a", "b"]
    assert texts(again) == {"c": "z"}


async def test_what_making_the_engine_raises_reaches_start_and_stop_returns() -> None:
    def make() -> SpellingEngine:
        raise ConfigError("no weights; get the model")

    thread = EngineThread(make)
    with pytest.raises(ConfigError, match="no weights; get the model"):
        await thread.start()
    async with asyncio.timeout(LIMIT_S):
        await thread.stop()


async def test_stopping_closes_the_engine_and_ends_what_still_runs() -> None:
    async with started() as (thread, engine):
        task = await collecting(thread, spell("a", "xyz"))
        stopping = asyncio.create_task(thread.stop())
        await asyncio.sleep(0)
        engine.allowed.release()
        await stopping
        (failure,) = await task
    assert isinstance(failure, Failure)
    assert failure.kind == "cancelled"
    assert engine.is_closed
    assert engine.aborted == ["a"]


async def test_one_thread_alone_touches_the_engine() -> None:
    async with started(steps=10) as (thread, engine):
        await collect(thread, spell("a", "xyz"))
    assert len(set(engine.threads)) == 1
    assert threading.get_ident() not in engine.threads


async def test_stopping_what_was_never_started_is_nothing() -> None:
    await EngineThread(SpellingEngine).stop()
