"""The online driver: runs one query's flow on the pool, concurrently, streaming what is final."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from composer.flow import FlowRun
from composer.pool.pool import Pool
from composer.protocols import Flow
from composer.types import Completion, Delta, Failure, Outcome, Request, RequestId, Restart, Span

T = TypeVar("T")

Event = Delta | Restart | Completion | Failure


class OnlineRun(FlowRun[T]):
    """A flow that runs on a pool; afterwards it has the flow's result, outcomes and spans."""

    def __init__(self, flow: Flow[T], pool: Pool) -> None:
        super().__init__(flow)
        self._pool = pool
        self._started_s: dict[RequestId, float] = {}
        self.outcomes: list[Outcome] = []
        self.spans: list[Span] = []

    async def events(self, *, stream: bool) -> AsyncGenerator[Delta | Restart]:
        """Run the flow to its end, handing out what it streams.

        A `Restart` comes whenever what was handed out before is to be dropped: also when the flow
        turned to another expert half-way through. Closing the iterator aborts all that runs.
        """
        arrived: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        speaking: RequestId | None = None
        tasks: set[asyncio.Task[None]] = set()
        try:
            self._launch(self.start(), arrived, tasks, stream=stream)
            while not self.is_done:
                event = await arrived.get()
                match event:
                    case Delta():
                        if speaking not in (None, event.request_id):
                            yield Restart(event.request_id, f"now {event.expert} answers")
                        speaking = event.request_id
                        yield event
                    case Restart():
                        speaking = None
                        yield event
                    case Completion() | Failure():
                        self._note(event)
                        self._launch(self.deliver([event]), arrived, tasks, stream=stream)
                    case _:
                        raise event
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self.close()

    def _launch(
        self,
        requests: Sequence[Request],
        arrived: asyncio.Queue[Event | BaseException],
        tasks: set[asyncio.Task[None]],
        *,
        stream: bool,
    ) -> None:
        now = time.perf_counter()
        self._started_s.update((request.id, now) for request in requests)
        streamed = [r for r in requests if stream and r.final]
        together = [r for r in requests if not (stream and r.final)]
        for request in streamed:
            tasks.add(asyncio.create_task(self._pump([request], arrived, stream=True)))
        if together:
            tasks.add(asyncio.create_task(self._pump(together, arrived, stream=False)))

    async def _pump(
        self,
        requests: Sequence[Request],
        arrived: asyncio.Queue[Event | BaseException],
        *,
        stream: bool,
    ) -> None:
        try:
            if stream:
                async with aclosing(self._pool.stream(requests[0])) as events:
                    async for event in events:
                        arrived.put_nowait(event)
            else:
                async with aclosing(self._pool.run(requests)) as outcomes:
                    async for _, outcome in outcomes:
                        arrived.put_nowait(outcome)
        except Exception as exc:  # noqa: BLE001 - raised again by `events`, which awaits it
            arrived.put_nowait(exc)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        start_s, end_s = self._started_s[outcome.request_id], time.perf_counter()
        request = self.request(outcome.request_id)
        about = {"request": request.id, "expert": request.expert, "purpose": request.purpose}
        if isinstance(outcome, Failure):
            failed = about | {"failure": outcome.kind, "attempts": outcome.attempts}
            self.spans.append(Span("ask", start_s, end_s, failed))
            return
        ask = about | {"runner": outcome.runner, "attempts": outcome.attempts}
        self.spans.append(Span("ask", start_s, end_s, ask))
        begun_s = start_s
        for name, seconds in (
            ("queue", outcome.queued_s),
            ("load", outcome.loading_s),
            ("generate", outcome.generating_s),
        ):
            if seconds:
                self.spans.append(Span(name, begun_s, begun_s + seconds, about))
            begun_s += seconds
