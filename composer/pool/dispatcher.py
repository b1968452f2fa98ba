"""Takes jobs to engines and back: turns, loads, retries, runners that break.

Nothing here awaits between looking at the state and changing it: `schedule` is called after every
change and is not a coroutine. Whatever goes wrong with a job ends as one `Failure` value.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from composer.backends.resolution import resolve_spec
from composer.errors import ConfigError, ExpertUnavailable
from composer.experts import Registry
from composer.pool.fleet import Fleet
from composer.pool.held import Held
from composer.pool.housekeeping import Housekeeper
from composer.pool.job import Job
from composer.pool.placing import NoRoomYet
from composer.pool.queues import EngineQueue, EngineQueues
from composer.pool.turns import EngineView, next_turns
from composer.types import Completion, Delta, EngineSpec, Failure, Outcome, Restart

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Dispatcher:
    """The queues of all engines, and the tasks that serve them."""

    def __init__(self, registry: Registry, fleet: Fleet, *, models: Path) -> None:
        """Store what is needed.

        Args:
            registry: The experts and the pool's settings.
            fleet: The runners.
            models: The folder that converted models are kept in.
        """
        self._registry = registry
        self._settings = registry.pool
        self._fleet = fleet
        self._models = models
        self.queues = EngineQueues(registry, fleet)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.keeper = Housekeeper(
            self._settings, fleet, is_idle=self._is_idle, lose=self._lose_held
        )
        self.is_closed = False

    async def close(self) -> None:
        """End all tasks; jobs that are not finished end as failures."""
        self.is_closed = True
        await self.keeper.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for queue in self.queues:
            for job in (*queue.running.values(), *queue.waiting):
                job.close(job.failure("cancelled", "the pool was closed"))

    def load_ahead(self, expert: str) -> None:
        """Have an expert's engine loaded although nothing waits for it."""
        queue = self.queues.of(expert)
        if self._settings.load_ahead and self._fleet.find(queue.spec.copy_key) is None:
            queue.is_wanted = True
            self.schedule()

    # Turns: who may run next.

    def schedule(self) -> None:
        """Start all that may start now; to be called after every change."""
        if self.is_closed:
            return
        views = [self._view(queue) for queue in self.queues]
        load_ahead = self._settings.load_ahead
        for turn in next_turns(views, self._fleet.slots, load_ahead=load_ahead):
            queue = self.queues[turn.key]
            held = self._fleet.find(turn.key)
            if turn.action == "load":
                queue.loading = self._spawn(self._bring_up(queue, ahead=turn.is_ahead))
            elif held is not None:
                self._submit(queue, held)
        self.keeper.await_idleness()

    def _view(self, queue: EngineQueue) -> EngineView:
        held = self._fleet.find(queue.spec.copy_key)
        return EngineView(
            queue.spec.copy_key,
            queue.is_local,
            is_up=held is not None and held.is_ready,
            is_busy=queue.loading is not None or bool(queue.running),
            is_blocked=queue.is_blocked,
            oldest_s=queue.waiting[0].accepted_s if queue.waiting else None,
            nodes=self._fleet.nodes_for(queue.spec) if queue.is_local else (),
            is_wanted=queue.is_wanted,
        )

    def _submit(self, queue: EngineQueue, held: Held) -> None:
        now = time.perf_counter()
        jobs, queue.waiting = list(queue.waiting), type(queue.waiting)()
        for job in jobs:
            if job.request.id in queue.running:
                job.close(job.failure("refused", "a request of this id is running already"))
                continue
            job.submitted_s = now
            queue.last_s = queue.last_s if queue.running else now
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
        if queue.is_local and not held.is_inline and not self._settings.load_ahead:
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
        self._fleet.serve(held)
        queue.keep_pace()
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
        self.schedule()

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
        self.schedule()

    async def _lose_held(self, held: Held, reason: str) -> None:
        if held.spec is not None:
            await self._lose(self.queues[held.spec.copy_key], held, reason)
        else:
            await self._fleet.drop(held)

    # Jobs that nobody waits for any more.

    def stop(self, job: Job) -> None:
        """Take a closed job out of the queue, or abort it."""
        queue = self.queues.of(job.request.expert, job.replica)
        held = self._fleet.find(queue.spec.copy_key)
        if job in queue.waiting:
            queue.waiting.remove(job)
            self.schedule()
        elif queue.running.get(job.request.id) is job and held is not None and not self.is_closed:
            self._spawn(self._abort(queue, held, job))

    async def _abort(self, queue: EngineQueue, held: Held, job: Job) -> None:
        """Abort a running job; a runner that does not acknowledge it in time hangs."""
        await held.runner.abort([job.request.id])
        await asyncio.sleep(self._settings.grace_s)
        if queue.running.get(job.request.id) is job:
            grace = self._settings.grace_s
            await self._lose(queue, held, f"its engine did not obey an abort within {grace:.0f} s")

    # Loading.

    async def _bring_up(self, queue: EngineQueue, *, ahead: bool) -> None:
        started_s = time.perf_counter()
        retry_at_s: float | None = None
        try:
            spec = await self.resolve(queue)
            if spec.runner == "ray":
                await self._fleet.start_cluster()
                self.keeper.watch()
            held = await self._fleet.bring_up(spec, pinned=queue.is_pinned, ahead=ahead)
            if self._settings.load_ahead and not held.is_inline:
                self._fleet.start_spare()
        except NoRoomYet as exc:
            queue.is_blocked, retry_at_s = True, exc.until_s
        except ConfigError as exc:
            self._fail_waiting(queue, str(exc))
        except ExpertUnavailable as exc:
            waiting, queue.waiting = list(queue.waiting), type(queue.waiting)()
            for job in reversed(waiting):
                self._retry(queue, job, exc.reason)
        except Exception as exc:
            logger.warning("%s: its load failed", queue.spec.key, exc_info=True)
            self._fail_waiting(queue, f"its load failed: {exc!r}")
        finally:
            ended_s = time.perf_counter()
            for job in queue.waiting:
                job.loading_s += ended_s - max(started_s, job.accepted_s)
            queue.loading = None
            queue.is_wanted = queue.is_wanted and queue.is_blocked
        if retry_at_s is not None:
            delay_s = max(0.0, retry_at_s - self._fleet.now())
            asyncio.get_running_loop().call_later(delay_s, self._unblock_and_schedule)
        elif not queue.is_blocked:
            self._unblock()
        self.schedule()

    def _is_idle(self) -> bool:
        return not any(q.waiting or q.running or q.loading for q in self.queues)

    def _fail_waiting(self, queue: EngineQueue, message: str) -> None:
        while queue.waiting:
            job = queue.waiting.popleft()
            job.close(job.failure("unavailable", message))

    def _unblock(self) -> None:
        for queue in self.queues:
            queue.is_blocked = False

    def _unblock_and_schedule(self) -> None:
        self._unblock()
        self.schedule()

    async def resolve(self, queue: EngineQueue) -> EngineSpec:
        """The engine's spec with folders on this disk for its source and adapters."""
        if not queue.is_resolved:
            spec = await asyncio.to_thread(resolve_spec, queue.spec, models=self._models)
            queue.spec, queue.is_resolved = spec, True
        return queue.spec

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
