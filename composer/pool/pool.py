"""The pool: runs requests on experts' engines, inside the budgets of memory and cores.

Whatever goes wrong with a request ends as one `Failure` value. Nothing here awaits between looking
at the state and changing it: `_schedule` is called after every change and is not a coroutine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from composer.backends import backend_entry
from composer.backends.sources import cache_dir, resolve_adapter, resolve_model
from composer.errors import ComposerError, ConfigError, ExpertUnavailable
from composer.experts import Registry
from composer.pool.fleet import Fleet, Held, NoRoomYet
from composer.pool.footprint import Footprints
from composer.pool.job import EngineQueue, Job, JobEvent
from composer.pool.turns import EngineView, next_turns
from composer.types import (
    DEFAULT_SAMPLING,
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Outcome,
    Request,
    RequestId,
    Restart,
)

logger = logging.getLogger(__name__)

IDLE_BEFORE_SPARE_S = 2.0
"""How long nothing runs before a spare may use a core to import its engine."""

T = TypeVar("T")


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
        self._registry = registry
        self._settings = registry.pool
        self._cache = cache if cache is not None else cache_dir()
        self._footprints = Footprints(self._cache / "footprints.json")
        self._fleet = Fleet(self._settings, self._footprints)
        self._queues: dict[str, EngineQueue] = {}
        self._by_expert: dict[str, EngineQueue] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

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
            self._spawn(self._prewarm())

    async def resolve(self, expert: str) -> EngineSpec:
        """The expert's engine with its source and adapters as folders on this disk.

        A hub model is downloaded and a GGUF converted the first time.

        Raises:
            ConfigError: The source cannot be resolved.
        """
        return await self._resolve(self._queue(expert))

    def resolved(self, expert: str) -> EngineSpec | None:
        """What `resolve` returned before; None: it was not called."""
        queue = self._queue(expert)
        return queue.spec if queue.is_resolved else None

    def load_seconds(self, expert: str) -> float:
        """Seconds until the expert could start: 0 if it is up, else as measured last time."""
        key = self._queue(expert).spec.key
        held = self._fleet.find(key)
        if held is not None and held.is_ready:
            return 0.0
        footprint = self._footprints.of(key)
        return footprint.load_s if footprint is not None else 0.0

    def runners(self) -> list[RunnerInfo]:
        """The runners that there are now."""
        return [
            RunnerInfo(h.spec.experts if h.spec else (), h.how, h.bytes, h.runner.pid)
            for h in self._fleet
        ]

    async def close(self) -> None:
        """End all runners; requests that still run end as failures."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for queue in self._queues.values():
            for job in (*queue.running.values(), *queue.waiting):
                job.close(job.failure("cancelled", "the pool was closed"))
        await self._fleet.close()

    async def _run(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[JobEvent]:
        sink: asyncio.Queue[JobEvent] = asyncio.Queue()
        jobs = [self._accept(request, sink, stream=stream) for request in requests]
        self._schedule()
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
                    self._stop(job)

    def _accept(self, request: Request, sink: asyncio.Queue[JobEvent], *, stream: bool) -> Job:
        expert = self._registry.experts[request.expert]
        sampling = request.sampling.over(expert.sampling.to_sampling()).over(DEFAULT_SAMPLING)
        job = Job(replace(request, sampling=sampling), sink, stream)
        if self._is_closed:
            job.close(job.failure("cancelled", "the pool is closed"))
            return job
        self._queue(request.expert).waiting.append(job)
        deadline_s = request.deadline_s or self._settings.deadline_s
        job.timer = asyncio.get_running_loop().call_later(deadline_s, self._expire, job)
        return job

    def _queue(self, expert: str) -> EngineQueue:
        queue = self._by_expert.get(expert)
        if queue is None:
            spec = self._registry.engine_spec(expert)
            pinned = any(self._registry.experts[name].pinned for name in spec.experts)
            queue = EngineQueue(spec, backend_entry(spec.engine).is_local, pinned)
            queue = self._queues.setdefault(spec.key, queue)
            self._by_expert[expert] = queue
        return queue

    # Turns: who may run next.

    def _schedule(self) -> None:
        if self._is_closed:
            return
        views = [self._view(queue) for queue in self._queues.values()]
        for turn in next_turns(views, self._settings.busy_engines):
            queue = self._queues[turn.key]
            held = self._fleet.find(turn.key)
            if turn.action == "load":
                queue.loading = self._spawn(self._bring_up(queue))
            elif held is not None:
                self._submit(queue, held)
        self._await_idleness()

    def _view(self, queue: EngineQueue) -> EngineView:
        held = self._fleet.find(queue.spec.key)
        return EngineView(
            queue.spec.key,
            queue.is_local,
            is_up=held is not None and held.is_ready,
            is_busy=queue.loading is not None or bool(queue.running),
            is_blocked=queue.is_blocked,
            oldest_s=queue.waiting[0].accepted_s if queue.waiting else None,
        )

    def _submit(self, queue: EngineQueue, held: Held) -> None:
        now = time.perf_counter()
        jobs, queue.waiting = list(queue.waiting), type(queue.waiting)()
        for job in jobs:
            if job.request.id in queue.running:
                job.close(job.failure("refused", "a request of this id is running already"))
                continue
            job.submitted_s = now
            queue.running[job.request.id] = job
            held.jobs += 1
        for stream in (True, False):
            batch = [j for j in jobs if j.stream is stream and not j.is_closed]
            if batch:
                task = self._spawn(self._consume(queue, held, batch, stream=stream))
                held.consumers.add(task)
                task.add_done_callback(held.consumers.discard)

    # Running: what comes back from a runner.

    async def _consume(
        self, queue: EngineQueue, held: Held, jobs: Sequence[Job], *, stream: bool
    ) -> None:
        if self._fleet.is_warming and queue.is_local and not held.is_inline:
            await self._fleet.preempt_spare()
        try:
            requests = [job.request for job in jobs]
            async with aclosing(held.runner.generate(requests, stream=stream)) as events:
                async for event in events:
                    job = queue.running[event.request_id]
                    if isinstance(event, Delta):
                        job.emit(event)
                    elif isinstance(event, Failure) and event.retryable and not held.is_inline:
                        raise ExpertUnavailable(event.expert, event.message)
                    else:
                        self._settle(queue, held, job, event)
        except ExpertUnavailable as exc:
            await self._lose(queue, held, exc.reason)

    def _settle(self, queue: EngineQueue, held: Held, job: Job, outcome: Outcome) -> None:
        """Hand over an outcome, or try again."""
        del queue.running[job.request.id]
        held.jobs -= 1
        held.used_at_s = self._fleet.now()
        if isinstance(outcome, Completion):
            price = self._registry.experts[outcome.expert].price
            how = None if held.is_inline else held.how if job.loading_s else "resident"
            cost = price.cost_usd(outcome.prompt_tokens, outcome.completion_tokens)
            job.close(job.account(outcome, runner=how, cost_usd=cost))
        elif outcome.retryable:
            self._retry(queue, job, outcome.message)
        else:
            job.close(replace(outcome, attempts=job.attempts))
        if held.jobs == 0:
            self._unblock()
        self._schedule()

    def _retry(self, queue: EngineQueue, job: Job, reason: str) -> None:
        """Put a job back to the front of the queue, unless it has had its attempts."""
        if job.is_closed:
            return
        if job.attempts >= self._settings.max_attempts:
            job.close(job.failure("unavailable", f"{reason} ({job.attempts} attempts)"))
            return
        if job.has_text:
            job.emit(Restart(job.request.id, f"{job.request.expert}: {reason}; trying again"))
        job.attempts += 1
        job.submitted_s = None
        queue.waiting.appendleft(job)

    async def _lose(self, queue: EngineQueue, held: Held, reason: str) -> None:
        """A runner is broken: end it, and run what it had not finished on another one."""
        logger.warning("%s: %s; its runner is replaced", queue.spec.key, reason)
        if held not in tuple(self._fleet):
            return
        jobs, queue.running = list(queue.running.values()), {}
        held.jobs = 0
        me = asyncio.current_task()
        for task in tuple(held.consumers):
            if task is not me:
                task.cancel()
        await self._fleet.drop(held)
        for job in reversed(jobs):
            self._retry(queue, job, reason)
        self._unblock()
        self._schedule()

    # Deadlines and withdrawals.

    def _expire(self, job: Job) -> None:
        job.close(job.timed_out())
        self._stop(job)

    def _stop(self, job: Job) -> None:
        """Take a closed job out of the queue, or abort it."""
        queue = self._queue(job.request.expert)
        held = self._fleet.find(queue.spec.key)
        if job in queue.waiting:
            queue.waiting.remove(job)
            self._schedule()
        elif queue.running.get(job.request.id) is job and held is not None and not self._is_closed:
            self._spawn(self._abort(queue, held, job))

    async def _abort(self, queue: EngineQueue, held: Held, job: Job) -> None:
        """Abort a running job; a runner that does not acknowledge it in time hangs."""
        await held.runner.abort([job.request.id])
        await asyncio.sleep(self._settings.grace_s)
        if queue.running.get(job.request.id) is job:
            grace = self._settings.grace_s
            await self._lose(queue, held, f"its engine did not obey an abort within {grace:.0f} s")

    # Loading.

    async def _bring_up(self, queue: EngineQueue) -> None:
        started_s = time.perf_counter()
        retry_at_s: float | None = None
        try:
            spec = await self._resolve(queue)
            if spec.runner == "ray":
                await self._fleet.start_cluster()
            held = await self._fleet.bring_up(spec, pinned=queue.is_pinned)
            queue.is_pinned = held.is_pinned
        except NoRoomYet as exc:
            queue.is_blocked, retry_at_s = True, exc.until_s
        except ConfigError as exc:
            self._fail_waiting(queue, str(exc))
        except ExpertUnavailable as exc:
            waiting, queue.waiting = list(queue.waiting), type(queue.waiting)()
            for job in reversed(waiting):
                self._retry(queue, job, exc.reason)
        finally:
            ended_s = time.perf_counter()
            for job in queue.waiting:
                job.loading_s += ended_s - max(started_s, job.accepted_s)
            queue.loading = None
        if retry_at_s is not None:
            delay_s = max(0.0, retry_at_s - self._fleet.now())
            asyncio.get_running_loop().call_later(delay_s, self._unblock_and_schedule)
        elif not queue.is_blocked:
            self._unblock()
        self._schedule()

    def _fail_waiting(self, queue: EngineQueue, message: str) -> None:
        while queue.waiting:
            job = queue.waiting.popleft()
            job.close(job.failure("unavailable", message))

    def _unblock(self) -> None:
        for queue in self._queues.values():
            queue.is_blocked = False

    def _unblock_and_schedule(self) -> None:
        self._unblock()
        self._schedule()

    async def _resolve(self, queue: EngineQueue) -> EngineSpec:
        if not queue.is_resolved:
            spec = await asyncio.to_thread(_resolved_spec, queue.spec, self._cache / "models")
            queue.spec, queue.is_resolved = spec, True
        return queue.spec

    # Spares.

    async def _prewarm(self) -> None:
        try:
            await self._fleet.start_cluster()
            self._fleet.start_spare()
        except ComposerError as exc:
            logger.warning("no runner was started ahead of time: %s", exc)

    def _await_idleness(self) -> None:
        """After a while of nothing to do, measure anew and have a spare import its engine."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(IDLE_BEFORE_SPARE_S, self._on_idle)

    def _on_idle(self) -> None:
        if any(q.waiting or q.running or q.loading for q in self._queues.values()):
            return
        for held in self._fleet:
            self._spawn(self._fleet.refresh(held))
        if any(not held.is_inline for held in self._fleet):
            self._fleet.start_spare()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _resolved_spec(spec: EngineSpec, cache: Path) -> EngineSpec:
    """The spec with folders for its source and adapters."""
    if spec.source is None:
        return spec
    return replace(
        spec,
        model_path=str(resolve_model(spec.source, cache=cache)),
        adapters={name: str(resolve_adapter(source)) for name, source in spec.adapters.items()},
    )
