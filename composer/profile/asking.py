"""Runs requests on a pool, expert by expert and many at once, and keeps every outcome."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.pool import Pool
from composer.profile.journal import Journal
from composer.suggest import unknown_name
from composer.types import Completion, Failure, Outcome, Request, RequestId


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a profile has come."""

    what: str
    """`answers`, `aggregators`, or the router for which queries are annotated."""
    expert: str
    """Who is asked now."""
    done: int
    total: int
    """Requests that are asked together; annotating may ask more in reply."""
    failed: int


@dataclass(frozen=True, slots=True)
class Asking:
    """Where requests run, and what is kept of them."""

    registry: Registry
    pool: Pool
    journal: Journal
    in_flight: int
    on_progress: Callable[[Progress], None]

    async def ask(self, what: str, requests: Sequence[Request]) -> dict[RequestId, Outcome]:
        """Every request's outcome. What the journal holds is not asked again, unless it failed.

        Raises:
            ConfigError: A request's expert does not exist, or has other settings than when it was
                asked before.
        """
        outcomes: dict[RequestId, Outcome] = {}
        engines: dict[str, deque[Request]] = {}
        for request in requests:
            if request.expert not in self.registry.experts:
                raise ConfigError(unknown_name("expert", request.expert, self.registry.experts))
            self.journal.admit(request.expert)
            known = self.journal.outcome(request)
            if isinstance(known, Completion):
                outcomes[request.id] = known
            else:
                key = self.registry.engine_spec(request.expert).key
                engines.setdefault(key, deque()).append(request)
        n_failed = 0

        def say(expert: str) -> None:
            self.on_progress(Progress(what, expert, len(outcomes), len(requests), n_failed))

        for waiting in engines.values():
            say(waiting[0].expert)
            async with aclosing(self._run(waiting)) as running:
                async for request, outcome in running:
                    self.journal.add(request, outcome)
                    outcomes[request.id] = outcome
                    n_failed += isinstance(outcome, Failure)
                    say(request.expert)
        return outcomes

    async def _run(self, waiting: deque[Request]) -> AsyncGenerator[tuple[Request, Outcome]]:
        """Run one engine's requests, so many at once that it can batch them, and no more.

        (Were all accepted at once, the last would wait beyond its deadline.)
        """
        running: dict[asyncio.Task[Outcome], Request] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.in_flight:
                    request = waiting.popleft()
                    running[asyncio.create_task(self._one(request))] = request
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield running.pop(task), task.result()
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _one(self, request: Request) -> Outcome:
        # The first of an engine's requests wait until it is loaded, which has a deadline itself.
        settings = self.registry.pool
        patient = replace(request, deadline_s=settings.load_deadline_s + settings.deadline_s)
        async with aclosing(self.pool.run((patient,))) as outcomes:
            async for _, outcome in outcomes:
                return outcome
        raise AssertionError("the pool gave no outcome")
