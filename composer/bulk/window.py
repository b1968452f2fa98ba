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
from composer.types import Outcome, Request, RequestId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flows(Generic[T]):
    """The flows of a batch."""

    phase: str
    n_rows: int
    make: Callable[[int], Flow[T]]
    """A row's flow, from its beginning; the same each time."""
    finish: Callable[[int, FlowRun[T] | ComposerError], None]
    """Called once a row, with its flow that has returned or what it raised."""


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
        return live

    def deliver(self, row: int, outcome: Outcome) -> tuple[Request, ...]:
        """Keep an outcome, send it to the row's flow, and return what that asks in reply."""
        live = self._live[row]
        self._journal.add(row, outcome)
        try:
            asked = live.run.deliver([outcome])
        except ComposerError as exc:
            self._finish(row, live, exc)
            return ()
        if live.run.is_done:
            self._finish(row, live, live.run)
        return asked

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
