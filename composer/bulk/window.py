"""The queries whose flows are in memory: rebuilt from the journal, and dropped again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from composer.bulk.journal import Journal
from composer.errors import ComposerError
from composer.flow import FlowRun
from composer.protocols import Flow
from composer.types import Completion, Outcome, Request, RequestId

T = TypeVar("T")


Known = Callable[[Request], Completion | None]
"""Says what a request would come to, where that is there already; the same each time."""


def nothing_known(request: Request) -> Completion | None:
    """For flows all of whose requests are asked."""
    return None


@dataclass(frozen=True, slots=True)
class Flows(Generic[T]):
    """The flows of a batch."""

    phase: str
    n_rows: int
    make: Callable[[int], Flow[T]]
    """A row's flow, from its beginning; the same each time."""
    finish: Callable[[int, FlowRun[T] | ComposerError], None]
    """Called once a row, with its flow that has returned or what it raised."""
    known: Known = nothing_known


@dataclass(eq=False, slots=True)
class Live(Generic[T]):
    """A query in the window."""

    run: FlowRun[T]
    asked: set[RequestId] = field(default_factory=set[RequestId])
    """Requests that engines have."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """What waits for their outcomes."""


class Window(Generic[T]):
    """The flows of rows that are looked at now; a row that is done has none."""

    def __init__(self, flows: Flows[T], journal: Journal) -> None:
        self._flows = flows
        self._journal = journal
        self._live: dict[int, Live[T]] = {}

    def revive(self, row: int) -> Live[T] | None:
        """A row's flow as it stands; None: the row is done."""
        if row in self._live:
            return self._live[row]
        if self._journal.is_done(row):
            return None
        try:
            live = self._live[row] = Live(FlowRun(self._flows.make(row)))
        except ComposerError as exc:
            self._flows.finish(row, exc)
            return None
        try:
            live.run.start()
            for outcome in self._journal.outcomes(row):
                live.run.deliver([outcome])
        except ComposerError as exc:
            self._finish(row, live, exc)
            return None
        if live.run.is_done:
            self._finish(row, live, live.run)
            return None
        self._deliver_known(row, live)
        return self._live.get(row)

    def deliver(self, row: int, outcome: Outcome) -> tuple[Request, ...]:
        """Keep an outcome, send it to the row's flow, and return what is to be asked in reply."""
        live = self._live[row]
        before = {request.id for request in live.run.waiting}
        self._deliver(row, live, outcome)
        self._deliver_known(row, live)
        if not self.holds(row, live):
            return ()
        return tuple(request for request in live.run.waiting if request.id not in before)

    def _deliver_known(self, row: int, live: Live[T]) -> None:
        """Send a flow what is known of what it waits for, until it waits for what is not."""
        while self.holds(row, live):
            asked = (r for r in live.run.waiting if r.id not in live.asked)
            found = next((o for r in asked if (o := self._flows.known(r)) is not None), None)
            if found is None:
                return
            self._deliver(row, live, found)

    def _deliver(self, row: int, live: Live[T], outcome: Outcome) -> None:
        self._journal.add(row, outcome)
        try:
            live.run.deliver([outcome])
        except ComposerError as exc:
            self._finish(row, live, exc)
            return
        if live.run.is_done:
            self._finish(row, live, live.run)

    def holds(self, row: int, live: Live[T]) -> bool:
        """Whether this is still the row's flow."""
        return self._live.get(row) is live

    def drop(self, row: int, live: Live[T]) -> None:
        """Forget a flow that no engine works for."""
        if not live.tasks and self.holds(row, live):
            del self._live[row]
            live.run.close()

    def _finish(self, row: int, live: Live[T], found: FlowRun[T] | ComposerError) -> None:
        """Hand over what came of a row, and withdraw what nobody waits for any more."""
        del self._live[row]
        for task in live.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._flows.finish(row, found)
