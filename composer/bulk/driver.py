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
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Generic, TypeVar

from composer.bulk.journal import Journal
from composer.bulk.progress import BatchProgress, OnProgress, StageRecord
from composer.bulk.stages import StagePlanner, expected_load
from composer.bulk.turns import Turn, Turns
from composer.bulk.waiting import Load, Waiting
from composer.bulk.window import Flows, Live, Window
from composer.pool.pool import Pool
from composer.types import Completion, Failure, Outcome, Request

T = TypeVar("T")

WINDOW = 256
"""Queries that an engine is asked of at one time: enough for a full batch in any engine."""
DEADLINE_S = 3600.0
"""For a request, once an engine that is up has it."""
REPLAN_S = 5.0
"""How often it is looked whether a machine has joined, or a copy has come to be worth its load."""


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
        self._turns = Turns(planner, self._waiting)
        self._changed = asyncio.Event()
        self._broken: BaseException | None = None
        self._began_s = time.monotonic()
        self._n_loads = pool.n_loads
        self._loads_waiting = 0
        self._has_room = True
        self._next: str | None = None
        self._progress = BatchProgress(flows.phase, flows.n_rows, journal.n_done, journal.n_failed)

    async def run(self) -> BatchProgress:
        """Run all flows that are not done; how it stands then.

        Raises:
            ConfigError: An engine is too large, or the run's folder cannot be written.
        """
        running: dict[Turn, asyncio.Task[None]] = {}
        try:
            await self._pool.find_nodes()
            await self._gather()
            self._changed.clear()
            while self._start_stages(running):
                await self._change()
                self._changed.clear()
                if self._broken is not None:
                    raise self._broken
                for turn in [turn for turn, task in running.items() if task.done()]:
                    running.pop(turn).result()
        finally:
            tasks = [*running.values(), *(t for turn in self._turns for t in turn.tasks)]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._pool.foresee(())
            self._planner.keep_rates()
        return self._progress

    async def _change(self) -> None:
        """Wait until there is something to be planned: a slot that no turn is on, say."""
        while True:
            try:
                async with asyncio.timeout(REPLAN_S):
                    await self._changed.wait()
                return
            except TimeoutError:
                if self._waiting.requests and self._turns.free_slot() is not None:
                    return

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

    def _start_stages(self, running: dict[Turn, asyncio.Task[None]]) -> bool:
        """Give turns to engines, and copies of them; whether any has one."""
        loads = self._waiting.loads()
        plan = self._planner.plan(loads)
        order = list(dict.fromkeys(stage.engine for stage in plan.stages))
        first = {(s.node, s.slot): s.engine for s in reversed(plan.stages)}
        self._pool.foresee([self._planner.experts(key)[0] for key in order])
        at_once = [key for key in loads if not self._planner.is_local(key)]
        at_once += sorted(first.values(), key=order.index)
        to_load = [stage.engine for stage in plan.stages if stage.is_load]
        for key, copies in Counter(at_once).items():
            for _ in range(copies - len(self._turns.of(key))):
                turn = self._turns.begin(key, is_load=key in to_load)
                if turn is not None:
                    self._progress = replace(self._progress, n_stages=self._progress.n_stages + 1)
                    task = running[turn] = asyncio.create_task(self._take_turn(turn))
                    task.add_done_callback(lambda _: self._changed.set())
        begun = Counter(turn.key for turn in self._turns)
        self._loads_waiting = (Counter(to_load) - begun).total()
        self._has_room = self._turns.free_slot() is not None
        self._next = next((key for key in to_load if key not in begun), None)
        self._tell(
            replace(
                self._progress,
                experts=tuple(e for key in begun for e in self._planner.experts(key)),
                left_s=plan.estimate.seconds,
            )
        )
        return bool(running)

    async def _take_turn(self, turn: Turn) -> None:
        """Ask an engine all that waits for it, and what comes to wait meanwhile."""
        while True:
            while len(turn.tasks) < self._n_open and self._turns.goes_on(turn):
                row = self._waiting.take(turn.key)
                if row is None:
                    break
                self._serve(row, turn)
            if not turn.tasks:
                break
            await turn.changed.wait()
            turn.changed.clear()
        self._turns.end(turn)
        end_s = time.monotonic()
        seconds = end_s - turn.start_s - turn.load_s
        self._planner.measure(turn.key, turn.completion_tokens, seconds)
        record = StageRecord(
            turn.key,
            self._planner.experts(turn.key),
            turn.start_s - self._began_s,
            turn.load_s,
            end_s - self._began_s,
            turn.requests,
            turn.completion_tokens,
            turn.slot if turn.is_local else None,
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
            turns = [turn for turn in self._turns.of(key) if self._turns.goes_on(turn)]
            if turns:
                self._serve(row, min(turns, key=lambda turn: len(turn.tasks)))
            else:
                self._waiting.add(key, row, load)
                if self._has_room or not self._planner.is_local(key):
                    self._changed.set()

    def _serve(self, row: int, turn: Turn) -> None:
        """Ask an engine that is up what a query waits for."""
        live = self._window.revive(row)
        if live is None:
            return
        requests = [
            request
            for request in live.run.waiting
            if request.id not in live.asked and self._planner.key(request.expert) == turn.key
        ]
        if not requests:
            self._window.drop(row, live)
            return
        live.asked.update(request.id for request in requests)
        task = asyncio.create_task(self._ask(row, live, turn, requests))
        for tasks in (live.tasks, turn.tasks):
            tasks.add(task)
        task.add_done_callback(lambda task: self._end(row, live, turn, task))

    async def _ask(self, row: int, live: Live[T], turn: Turn, requests: Sequence[Request]) -> None:
        patient = [replace(request, deadline_s=DEADLINE_S) for request in requests]
        replica = turn.replica if turn.is_local else None
        async with aclosing(self._pool.run(patient, replica=replica)) as outcomes:
            async for _, outcome in outcomes:
                if isinstance(outcome, Failure) and outcome.kind == "cancelled":
                    return
                self._hear(row, live, turn, outcome)
                if not self._window.holds(row, live):
                    return

    def _hear(self, row: int, live: Live[T], turn: Turn, outcome: Outcome) -> None:
        """Keep an outcome and send it to its flow."""
        turn.requests += 1
        if turn.requests == 1 and self._next is not None:
            self._pool.load_ahead(self._planner.experts(self._next)[0])
        if isinstance(outcome, Completion):
            turn.completion_tokens += outcome.completion_tokens
            turn.load_s = max(turn.load_s, outcome.loading_s)
        self._wait(row, self._window.deliver(row, outcome))
        self._count(outcome)

    def _end(self, row: int, live: Live[T], turn: Turn, task: asyncio.Task[None]) -> None:
        live.tasks.discard(task)
        turn.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
            self._changed.set()
        self._window.drop(row, live)
        turn.changed.set()

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
        loading = sum(turn.is_load and not turn.requests for turn in self._turns)
        self._progress = replace(
            progress,
            n_done=self._journal.n_done,
            n_failed=self._journal.n_failed,
            loads=self._pool.n_loads - self._n_loads,
            loads_left=self._loads_waiting + loading,
            requests_left=self._waiting.requests,
        )
        self._on_progress(self._progress)
