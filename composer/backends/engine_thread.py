"""One thread that owns an engine: it makes it, steps it, and lets it go.

An engine of the vLLM kind is synchronous, keeps its OpenMP threads with the thread that made it,
and batches continuously whatever was added before the next step. So everything that touches it
happens on one thread, which takes commands from a queue and hands events back to the event loop,
all events of a step at once.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from composer.types import Completion, Delta, Failure, Request, RequestId

logger = logging.getLogger(__name__)

Event = Delta | Completion | Failure


class SteppedEngine(Protocol):
    """A synchronous engine with continuous batching; used from one thread only."""

    def add(self, request: Request, *, stream: bool) -> Failure | None:
        """Take in a request; a failure here is its outcome."""
        ...

    def abort(self, ids: Sequence[RequestId]) -> None:
        """Forget these requests; ids that are not running are ignored."""
        ...

    def step(self) -> list[Event]:
        """Advance every running request and return what came of it."""
        ...

    def close(self) -> None:
        """Let go of the engine and its memory."""
        ...


@dataclass(frozen=True, slots=True)
class _Add:
    requests: tuple[Request, ...]
    stream: bool


@dataclass(frozen=True, slots=True)
class _Abort:
    ids: tuple[RequestId, ...]


@dataclass(frozen=True, slots=True)
class _Do:
    work: Callable[[Any], None]
    done: asyncio.Future[None]


class EngineThread:
    """Runs one engine on its own thread for callers on an event loop."""

    def __init__(self, make: Callable[[], SteppedEngine]) -> None:
        self._make = make
        self._commands: queue.Queue[_Add | _Abort | _Do | None] = queue.Queue()
        self._sinks: dict[RequestId, asyncio.Queue[Event]] = {}
        self._running: dict[RequestId, str] = {}
        self._thread: threading.Thread | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Make the engine on the thread; raises whatever the making raises."""
        self._loop = asyncio.get_running_loop()
        made: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(made,), name="engine", daemon=True)
        self._thread.start()
        await made

    async def stop(self) -> None:
        """Close the engine and wait for the thread to end."""
        if self._thread is not None:
            self._commands.put(None)
            await self._stopped.wait()
            self._thread = None

    async def generate(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[Event]:
        """See `Backend.generate`."""
        sink: asyncio.Queue[Event] = asyncio.Queue()
        unfinished = {request.id for request in requests}
        for request in requests:
            self._sinks[request.id] = sink
        self._commands.put(_Add(tuple(requests), stream))
        try:
            while unfinished:
                event = await sink.get()
                if not isinstance(event, Delta):
                    unfinished.discard(event.request_id)
                yield event
        finally:
            for request_id in unfinished:
                self._sinks.pop(request_id, None)
            if unfinished:
                self.abort(tuple(unfinished))

    async def do(self, work: Callable[[Any], None]) -> None:
        """Have the thread do something with its engine between steps; raises what that raises."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._commands.put(_Do(work, done))
        await done

    def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`."""
        self._commands.put(_Abort(tuple(ids)))

    def _run(self, made: asyncio.Future[None]) -> None:
        try:
            engine = self._make()
        except BaseException as exc:  # noqa: BLE001 - handed over to the awaiting caller
            error = exc

            def tell() -> None:
                made.set_exception(error)
                self._stopped.set()

            # At once: the loop may be gone as soon as it knows of the error.
            self._loop.call_soon_threadsafe(tell)
            return
        self._loop.call_soon_threadsafe(made.set_result, None)
        try:
            while self._obey(engine):
                self._step(engine)
        finally:
            engine.close()
            del engine
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _obey(self, engine: SteppedEngine) -> bool:
        """Carry out all waiting commands; with nothing running, wait for one."""
        while True:
            try:
                command = self._commands.get(block=not self._running)
            except queue.Empty:
                return True
            match command:
                case None:
                    engine.abort(tuple(self._running))
                    self._emit([_cancelled(i, expert) for i, expert in self._running.items()])
                    return False
                case _Add(requests, stream):
                    self._add(engine, requests, stream)
                case _Do(work, done):
                    self._do(engine, work, done)
                case _Abort(ids):
                    known = {i: self._running.pop(i) for i in ids if i in self._running}
                    engine.abort(tuple(known))
                    self._emit([_cancelled(i, expert) for i, expert in known.items()])

    def _do(
        self, engine: SteppedEngine, work: Callable[[Any], None], done: asyncio.Future[None]
    ) -> None:
        try:
            work(engine)
        except Exception as exc:  # noqa: BLE001 - handed over to the awaiting caller
            self._loop.call_soon_threadsafe(done.set_exception, exc)
        else:
            self._loop.call_soon_threadsafe(done.set_result, None)

    def _add(self, engine: SteppedEngine, requests: Sequence[Request], stream: bool) -> None:
        for request in requests:
            try:
                failure = engine.add(request, stream=stream and request.final)
            except Exception as exc:  # noqa: BLE001 - the border, as in `_step`
                reason = f"its engine refused it: {exc!r}"
                failure = Failure(request.id, request.expert, "unavailable", reason, retryable=True)
            if failure is None:
                self._running[request.id] = request.expert
            else:
                self._emit([failure])

    def _step(self, engine: SteppedEngine) -> None:
        if not self._running:
            return
        try:
            events = engine.step()
        except Exception as exc:  # noqa: BLE001 - the border: an engine's exception becomes values
            logger.warning("the engine failed in the middle of a step: %s", exc)
            reason = f"its engine failed: {str(exc).splitlines()[0] if str(exc) else repr(exc)}"
            failed: list[Event] = [
                Failure(i, expert, "unavailable", reason, retryable=True)
                for i, expert in self._running.items()
            ]
            engine.abort(tuple(self._running))
            self._running.clear()
            self._emit(failed)
            return
        for event in events:
            if not isinstance(event, Delta):
                self._running.pop(event.request_id, None)
        self._emit(events)

    def _emit(self, events: list[Event]) -> None:
        if events:
            self._loop.call_soon_threadsafe(self._hand_out, events)

    def _hand_out(self, events: list[Event]) -> None:
        for event in events:
            done = not isinstance(event, Delta)
            sinks = self._sinks
            sink = sinks.pop(event.request_id, None) if done else sinks.get(event.request_id)
            if sink is not None:
                sink.put_nowait(event)


def _cancelled(request_id: RequestId, expert: str) -> Failure:
    return Failure(request_id, expert, "cancelled", "withdrawn before it was finished")
