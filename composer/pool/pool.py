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
from composer.pool.nodes import PoolNode
from composer.pool.queues import EngineQueue
from composer.pool.waits import slot_wait_s
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
    node: str
    """The machine that it is on, by its name among `Pool.nodes`."""
    is_up: bool
    """Whether its experts are up, or about to be; else they sleep, or it has none."""


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
        on_gpu = registry.pool.gpu_memory_gib is not None
        self._footprints = Footprints(folder / "footprints.json", on_gpu=on_gpu)
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

    async def run(
        self, requests: Sequence[Request], *, replica: int | None = None
    ) -> AsyncGenerator[tuple[RequestId, Outcome]]:
        """Run requests together; each one's outcome as it is there. Closing aborts the rest.

        Args:
            requests: Each for its expert.
            replica: The copy of their engines that they go to, which is loaded if it is not up;
                None: the one with the fewest open requests of those that experts.yaml allows.
        """
        async with aclosing(self._run(requests, stream=False, replica=replica)) as events:
            async for event in events:
                if isinstance(event, (Completion, Failure)):
                    yield event.request_id, event

    def prewarm(self) -> None:
        """Start the first runner's process now, if any expert will need one."""
        if any(e.resolved_runner == "ray" for e in self._registry.experts.values()):
            self._dispatcher.keeper.prewarm()

    async def find_nodes(self) -> None:
        """Find the machines that experts run on, where experts.yaml leaves that to Ray.

        Raises:
            ConfigError: Ray does not come up.
        """
        if self._registry.pool.node_resource is not None:
            await self._fleet.start_cluster()
            self._dispatcher.keeper.watch()

    @property
    def nodes(self) -> Sequence[PoolNode]:
        """The machines that experts run on, as far as is known."""
        return self._fleet.nodes

    def load_ahead(self, expert: str) -> None:
        """Have an expert loaded that will be asked soon, if there is room, beside what generates.

        Nothing happens unless `pool.load_ahead` allows it.

        Raises:
            ConfigError: There is no such expert.
        """
        self._dispatcher.load_ahead(expert)

    async def resolve(self, expert: str) -> EngineSpec:
        """The expert's engine with its source and adapters as folders on this disk.

        A hub model is downloaded and a GGUF converted the first time.

        Raises:
            ConfigError: The source cannot be resolved.
        """
        return await self._dispatcher.resolve(self._dispatcher.queues.of(expert))

    def resolved(self, expert: str) -> EngineSpec | None:
        """What `resolve` would return, where that takes no work any more; else None."""
        queue = self._dispatcher.queues.of(expert)
        return queue.spec if queue.is_resolved or queue.spec.source is None else None

    def load_seconds(self, expert: str) -> float:
        """Seconds until the expert could start: 0 if it is up, else as measured last time."""
        return self._load_seconds(self._dispatcher.queues.of(expert))

    def wait_seconds(self, expert: str) -> float:
        """Seconds until a request made now would begin: its expert's load, and what is ahead."""
        queue, slots = self._dispatcher.queues.of(expert), self._fleet.slots
        if not queue.is_local:
            return self._load_seconds(queue)
        names = self._fleet.nodes_for(queue.spec)
        others = self._dispatcher.queues.others(queue)
        mine = {name: slots[name] for name in names if name in slots}
        return self._load_seconds(queue) + slot_wait_s(queue, others, mine, self._load_seconds)

    def _load_seconds(self, queue: EngineQueue) -> float:
        held = self._fleet.find(queue.spec.copy_key)
        footprint = self._footprints.of(queue.spec.key)
        if footprint is None or (held is not None and held.is_ready):
            return 0.0
        if held is not None and held.level and footprint.wake_s is not None:
            return footprint.wake_s
        return footprint.load_s

    def tokens_per_s(self, expert: str) -> float | None:
        """What its engine wrote in a batch, all requests together; None: never in a batch."""
        footprint = self._footprints.of(self._dispatcher.queues.of(expert).spec.key)
        return None if footprint is None else footprint.tokens_per_s

    def keep_rate(self, expert: str, tokens_per_s: float) -> None:
        """Remember how fast an expert's engine wrote in a batch, for plans to come."""
        self._footprints.record_rate(self._dispatcher.queues.of(expert).spec.key, tokens_per_s)

    def need_bytes(self, expert: str) -> int:
        """What an expert's engine takes where it computes: measured, or else estimated.

        Of a GPU, what the engine does; else what the process that it is in does.
        """
        need = self._footprints.need(self._dispatcher.queues.of(expert).spec)
        return need.gpu_bytes or need.total_bytes

    @property
    def n_loads(self) -> int:
        """How many times an engine was loaded so far."""
        return self._fleet.n_loads

    @property
    def budget_bytes(self) -> int:
        """What experts that are up may hold together, on the largest machine; 0: there is none."""
        return max((node.engine_bytes for node in self.nodes), default=0)

    def foresee(self, experts: Sequence[str]) -> None:
        """Say in what order experts are wanted next, so that whoever is wanted last makes room.

        It holds until it is said anew. Empty: nothing is known; `pool.eviction` decides then. An
        engine that is not among them is not loaded ahead any more.

        Raises:
            ConfigError: There is no such expert.
        """
        order = [self._dispatcher.queues.of(expert).spec.key for expert in experts]
        self._fleet.foresee(order)
        for queue in self._dispatcher.queues:
            queue.is_wanted = queue.is_wanted and queue.spec.key in order

    def runners(self) -> list[RunnerInfo]:
        """The runners that there are now."""
        return [
            RunnerInfo(
                h.spec.experts if h.spec is not None else (),
                h.how,
                h.bytes,
                h.runner.pid,
                h.node,
                h.spec is not None and not h.level,
            )
            for h in self._fleet
        ]

    async def close(self) -> None:
        """End all runners; requests that still run end as failures."""
        if not self._dispatcher.is_closed:
            await self._dispatcher.close()
            await self._fleet.close()

    async def _run(
        self, requests: Sequence[Request], *, stream: bool, replica: int | None = None
    ) -> AsyncGenerator[JobEvent]:
        sink: asyncio.Queue[JobEvent] = asyncio.Queue()
        jobs = [self._accept(request, sink, stream=stream, replica=replica) for request in requests]
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

    def _accept(
        self,
        request: Request,
        sink: asyncio.Queue[JobEvent],
        *,
        stream: bool,
        replica: int | None,
    ) -> Job:
        expert = self._registry.experts[request.expert]
        copy = self._dispatcher.queues.free_copy(request.expert) if replica is None else replica
        sampling = request.sampling.over(expert.sampling.to_sampling()).over(DEFAULT_SAMPLING)
        job = Job(replace(request, sampling=sampling), sink, stream, copy)
        if self._dispatcher.is_closed:
            job.close(job.failure("cancelled", "the pool is closed"))
            return job
        self._dispatcher.queues.of(request.expert, copy).waiting.append(job)
        deadline_s = request.deadline_s or self._registry.pool.deadline_s
        job.timer = asyncio.get_running_loop().call_later(deadline_s, self._expire, job)
        return job

    def _expire(self, job: Job) -> None:
        job.close(job.timed_out())
        self._dispatcher.stop(job)
