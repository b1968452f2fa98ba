"""The pool: runs requests on experts' engines, inside the budgets of memory and cores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from composer.backends.sources import cache_dir
from composer.experts import Registry
from composer.pool.dispatcher import Dispatcher
from composer.pool.fleet import Fleet
from composer.pool.footprint import Footprints
from composer.pool.job import Job, JobEvent
from composer.types import (
    DEFAULT_SAMPLING,
    Completion,
    EngineSpec,
    Failure,
    Outcome,
    Request,
    RequestId,
)


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """One runner, for people and tests to look at."""

    experts: tuple[str, ...]
    """Whom it serves; empty: it is warm and holds nothing."""
    how: str
    """How it came to hold them: reused, warm or fresh."""
    bytes: int
    pid: int | None
    """Its process; None: it has none of its own, or has not said yet."""


class Pool:
    """Runs requests; `async with` it. See `Runner` and `Backend` for where they run."""

    def __init__(self, registry: Registry, *, cache: Path | None = None) -> None:
        """Store what is needed; nothing is started before the first request or `prewarm`.

        Args:
            registry: The experts and the pool's settings.
            cache: Where converted models and measured figures are kept; None: the user's cache.
        """
        folder = cache if cache is not None else cache_dir()
        self._registry = registry
        self._footprints = Footprints(folder / "footprints.json")
        self._fleet = Fleet(registry.pool, self._footprints)
        self._dispatcher = Dispatcher(registry, self._fleet, models=folder / "models")

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def stream(self, request: Request) -> AsyncGenerator[JobEvent]:
        """Run one request: deltas if it is `final`, and last its one outcome.

        A `Restart` comes before deltas of a further attempt. Closing the iterator aborts.
        """
        async with aclosing(self._run((request,), stream=True)) as events:
            async for event in events:
                yield event

    async def run(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[RequestId, Outcome]]:
        """Run requests together; each one's outcome as it is there. Closing aborts the rest."""
        async with aclosing(self._run(requests, stream=False)) as events:
            async for event in events:
                if isinstance(event, (Completion, Failure)):
                    yield event.request_id, event

    def prewarm(self) -> None:
        """Start the first runner's process now, if any expert will need one."""
        if any(e.resolved_runner == "ray" for e in self._registry.experts.values()):
            self._dispatcher.prewarm()

    async def resolve(self, expert: str) -> EngineSpec:
        """The expert's engine with its source and adapters as folders on this disk.

        A hub model is downloaded and a GGUF converted the first time.

        Raises:
            ConfigError: The source cannot be resolved.
        """
        return await self._dispatcher.resolve(self._dispatcher.queue(expert))

    def resolved(self, expert: str) -> EngineSpec | None:
        """What `resolve` would return, where that takes no work any more; else None."""
        queue = self._dispatcher.queue(expert)
        return queue.spec if queue.is_resolved or queue.spec.source is None else None

    def load_seconds(self, expert: str) -> float:
        """Seconds until the expert could start: 0 if it is up, else as measured last time."""
        key = self._dispatcher.queue(expert).spec.key
        held = self._fleet.find(key)
        if held is not None and held.is_ready:
            return 0.0
        footprint = self._footprints.of(key)
        return footprint.load_s if footprint is not None else 0.0

    def need_bytes(self, expert: str) -> int:
        """What a process holds with the expert's engine in it: measured, or else estimated."""
        return self._footprints.need(self._dispatcher.queue(expert).spec).total_bytes

    @property
    def n_loads(self) -> int:
        """How many times an engine was loaded so far."""
        return self._fleet.n_loads

    @property
    def budget_bytes(self) -> int:
        """What all processes of experts on this machine may hold together."""
        return self._fleet.budget_bytes

    def foresee(self, experts: Sequence[str]) -> None:
        """Say in what order experts are wanted next, so that whoever is wanted last makes room.

        It holds until it is said anew. Empty: nothing is known; `pool.eviction` decides then.

        Raises:
            ConfigError: There is no such expert.
        """
        self._fleet.foresee([self._dispatcher.queue(expert).spec.key for expert in experts])

    def runners(self) -> list[RunnerInfo]:
        """The runners that there are now."""
        return [
            RunnerInfo(h.spec.experts if h.spec else (), h.how, h.bytes, h.runner.pid)
            for h in self._fleet
        ]

    async def close(self) -> None:
        """End all runners; requests that still run end as failures."""
        if not self._dispatcher.is_closed:
            await self._dispatcher.close()
            await self._fleet.close()

    async def _run(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[JobEvent]:
        sink: asyncio.Queue[JobEvent] = asyncio.Queue()
        jobs = [self._accept(request, sink, stream=stream) for request in requests]
        self._dispatcher.schedule()
        left = len(jobs)
        try:
            while left:
                event = await sink.get()
                left -= isinstance(event, (Completion, Failure))
                yield event
        finally:
            for job in jobs:
                if not job.is_closed:
                    job.close(None)
                    self._dispatcher.stop(job)

    def _accept(self, request: Request, sink: asyncio.Queue[JobEvent], *, stream: bool) -> Job:
        expert = self._registry.experts[request.expert]
        sampling = request.sampling.over(expert.sampling.to_sampling()).over(DEFAULT_SAMPLING)
        job = Job(replace(request, sampling=sampling), sink, stream)
        if self._dispatcher.is_closed:
            job.close(job.failure("cancelled", "the pool is closed"))
            return job
        self._dispatcher.queue(request.expert).waiting.append(job)
        deadline_s = request.deadline_s or self._registry.pool.deadline_s
        job.timer = asyncio.get_running_loop().call_later(deadline_s, self._expire, job)
        return job

    def _expire(self, job: Job) -> None:
        job.close(job.timed_out())
        self._dispatcher.stop(job)
