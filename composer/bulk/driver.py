"""The bulk driver: advances the flows of all queries together, an engine at a time.

Every query's flow runs until it asks; what it asks waits with all that others ask of the same
engine. An engine that has its turn is asked all of it, the queries passing through window by
window: a flow is rebuilt from the journal when its query's turn comes, and dropped when it waits
for engines that are not up. Each outcome goes back to its flow as soon as it is there, and what the
flow asks next joins a stage that runs, or one to come. So loads depend on the plan and not on the
window, and memory on the window and not on the batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from composer.bulk.journal import Journal
from composer.bulk.progress import BatchProgress, OnProgress, StageRecord
from composer.bulk.stages import StagePlanner, expected_load
from composer.bulk.waiting import Load, Waiting
from composer.bulk.window import Flows, Live, Window
from composer.pool.pool import Pool
from composer.types import Completion, Failure, Outcome, Request

T = TypeVar("T")

WINDOW = 256
"""Queries that an engine is asked of at one time: enough for a full batch in any engine."""
DEADLINE_S = 3600.0
"""For a request, once an engine that is up has it."""


@dataclass(eq=False, slots=True)
class _Stage:
    """An engine's turn."""

    start_s: float
    is_load: bool
    """Whether its engine has to be loaded for it."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    load_s: float = 0.0
    requests: int = 0
    completion_tokens: int = 0


class BulkRun(Generic[T]):
    """One pass over a batch: every row's flow, run to its end."""

    def __init__(
        self,
        flows: Flows[T],
        journal: Journal,
        pool: Pool,
        planner: StagePlanner,
        *,
        window: int = WINDOW,
        on_progress: OnProgress = lambda progress: None,
        on_stage: Callable[[StageRecord], None] = lambda record: None,
    ) -> None:
        """Store the parts.

        Args:
            flows: Deterministic given their outcomes.
            journal: Of this pass; rows that it has done are left out.
            pool: Where experts run.
            planner: Says whose turn it is.
            window: Queries that an engine is asked of at one time.
            on_progress: Called after every outcome, and when a stage begins.
            on_stage: Called after every stage.
        """
        self._flows = flows
        self._journal = journal
        self._pool = pool
        self._planner = planner
        self._n_open = window
        self._on_progress = on_progress
        self._on_stage = on_stage
        self._waiting = Waiting()
        self._window = Window(flows, journal)
        self._stages: dict[str, _Stage] = {}
        self._changed = asyncio.Event()
        self._broken: BaseException | None = None
        self._began_s = time.monotonic()
        self._n_loads = pool.n_loads
        self._loads_waiting = 0
        self._has_room = True
        self._progress = BatchProgress(flows.phase, flows.n_rows, journal.n_done, journal.n_failed)

    async def run(self) -> BatchProgress:
        """Run all flows that are not done; how it stands then.

        Raises:
            ConfigError: An engine is too large, or the run's folder cannot be written.
        """
        running: dict[str, asyncio.Task[None]] = {}
        try:
            await self._gather()
            self._changed.clear()
            while self._start_stages(running):
                await self._changed.wait()
                self._changed.clear()
                if self._broken is not None:
                    raise self._broken
                for key in [key for key, task in running.items() if task.done()]:
                    running.pop(key).result()
        finally:
            tasks = [*running.values(), *(t for s in self._stages.values() for t in s.tasks)]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._pool.foresee(())
        return self._progress

    async def _gather(self) -> None:
        """Find out what every query waits for first."""
        for row in range(self._flows.n_rows):
            live = self._window.revive(row)
            if live is not None:
                self._wait(row, live.run.waiting)
                self._window.drop(row, live)
            if row % self._n_open == 0:
                await asyncio.sleep(0)

    # Stages: whose turn it is.

    def _start_stages(self, running: dict[str, asyncio.Task[None]]) -> bool:
        """Give turns to engines; whether any has one."""
        loads = {key: load for key, load in self._waiting.loads().items() if key not in running}
        chosen = [key for key in loads if not self._planner.is_local(key)]
        busy = sum(self._planner.is_local(key) for key in running)
        plan = self._planner.plan(loads)
        order = list(dict.fromkeys(stage.engine for stage in plan.stages))
        to_load = {stage.engine for stage in plan.stages if stage.is_load}
        first = {stage.slot: stage.engine for stage in reversed(plan.stages)}
        free = self._planner.registry.pool.busy_engines - busy
        chosen += sorted(set(first.values()), key=order.index)[:free]
        self._pool.foresee([self._planner.experts(key)[0] for key in order])
        for key in chosen:
            self._stages[key] = _Stage(time.monotonic(), key in to_load)
            task = running[key] = asyncio.create_task(self._take_turn(key))
            task.add_done_callback(lambda _: self._changed.set())
        self._loads_waiting = len(to_load - {*chosen})
        self._has_room = len(set(first.values())) < free
        up = [expert for key in running for expert in self._planner.experts(key)]
        self._tell(
            replace(
                self._progress,
                experts=tuple(up),
                n_stages=self._progress.n_stages + len(chosen),
                left_s=plan.estimate.seconds,
            )
        )
        return bool(running)

    async def _take_turn(self, key: str) -> None:
        """Ask an engine all that waits for it, and what comes to wait meanwhile."""
        stage = self._stages[key]
        while True:
            while len(stage.tasks) < self._n_open:
                row = self._waiting.take(key)
                if row is None:
                    break
                self._serve(row, key)
            if not stage.tasks:
                break
            await stage.changed.wait()
            stage.changed.clear()
        del self._stages[key]
        end_s = time.monotonic()
        self._planner.measure(key, stage.completion_tokens, end_s - stage.start_s - stage.load_s)
        record = StageRecord(
            key,
            self._planner.experts(key),
            stage.start_s - self._began_s,
            stage.load_s,
            end_s - self._began_s,
            stage.requests,
            stage.completion_tokens,
        )
        self._on_stage(record)

    # Queries: in the window, and out of it.

    def _wait(self, row: int, requests: Sequence[Request]) -> None:
        """Have a query wait for the engines of requests, or ask those that are up."""
        loads: dict[str, Load] = {}
        for request in requests:
            key = self._planner.key(request.expert)
            loads[key] = loads.get(key, Load()) + expected_load(self._planner.registry, request)
        for key, load in loads.items():
            if key in self._stages:
                self._serve(row, key)
            else:
                self._waiting.add(key, row, load)
                if self._has_room or not self._planner.is_local(key):
                    self._changed.set()

    def _serve(self, row: int, key: str) -> None:
        """Ask an engine that is up what a query waits for."""
        live = self._window.revive(row)
        if live is None:
            return
        requests = [
            request
            for request in live.run.waiting
            if request.id not in live.asked and self._planner.key(request.expert) == key
        ]
        if not requests:
            self._window.drop(row, live)
            return
        live.asked.update(request.id for request in requests)
        stage = self._stages[key]
        task = asyncio.create_task(self._ask(row, live, stage, requests))
        for tasks in (live.tasks, stage.tasks):
            tasks.add(task)
        task.add_done_callback(lambda task: self._end(row, live, stage, task))

    async def _ask(
        self, row: int, live: Live[T], stage: _Stage, requests: Sequence[Request]
    ) -> None:
        patient = [replace(request, deadline_s=DEADLINE_S) for request in requests]
        async with aclosing(self._pool.run(patient)) as outcomes:
            async for _, outcome in outcomes:
                if isinstance(outcome, Failure) and outcome.kind == "cancelled":
                    return
                self._hear(row, live, stage, outcome)
                if not self._window.holds(row, live):
                    return

    def _hear(self, row: int, live: Live[T], stage: _Stage, outcome: Outcome) -> None:
        """Keep an outcome and send it to its flow."""
        stage.requests += 1
        if isinstance(outcome, Completion):
            stage.completion_tokens += outcome.completion_tokens
            stage.load_s = max(stage.load_s, outcome.loading_s)
        self._wait(row, self._window.deliver(row, outcome))
        self._count(outcome)

    def _end(self, row: int, live: Live[T], stage: _Stage, task: asyncio.Task[None]) -> None:
        live.tasks.discard(task)
        stage.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
            self._changed.set()
        self._window.drop(row, live)
        stage.changed.set()

    # Progress.

    def _count(self, outcome: Outcome) -> None:
        said = self._progress.completion_tokens
        if isinstance(outcome, Completion):
            said += outcome.completion_tokens
        rate = said / max(1e-6, time.monotonic() - self._began_s)
        requests = self._progress.requests + 1
        self._tell(
            replace(self._progress, requests=requests, completion_tokens=said, tokens_per_s=rate)
        )

    def _tell(self, progress: BatchProgress) -> None:
        loading = sum(stage.is_load and not stage.requests for stage in self._stages.values())
        self._progress = replace(
            progress,
            n_done=self._journal.n_done,
            n_failed=self._journal.n_failed,
            loads=self._pool.n_loads - self._n_loads,
            loads_left=self._loads_waiting + loading,
            requests_left=self._waiting.requests,
        )
        self._on_progress(self._progress)
