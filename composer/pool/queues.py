"""What waits for each engine, and for each copy of it, and what runs there."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from composer.backends import backend_entry
from composer.experts import Registry
from composer.pool.fleet import Fleet
from composer.pool.job import Job
from composer.types import EngineSpec

PACE_SHARE = 0.2
"""Of the newest interval between outcomes, in what is remembered of them."""

FULL_BATCH = 32
"""Requests that an engine runs at one time, where its engine_args do not say."""


@dataclass(eq=False, slots=True)
class EngineQueue:
    """What waits for one engine and what runs on it."""

    spec: EngineSpec
    is_local: bool
    is_pinned: bool
    waiting: deque[Job] = field(default_factory=deque[Job])
    running: dict[str, Job] = field(default_factory=dict[str, Job])
    loading: asyncio.Task[None] | None = None
    is_resolved: bool = False
    """Whether the spec's source and adapters are folders on this disk."""
    is_blocked: bool = False
    """No room for it until something changes."""
    is_wanted: bool = False
    """It is to be loaded although nothing waits for it yet."""
    pace_s: float = 0.0
    """Seconds from one outcome to the next while it generates, recent ones counting most."""
    last_s: float = 0.0
    """When the last outcome was there."""

    @property
    def n_open(self) -> int:
        """Jobs that wait or run."""
        return len(self.waiting) + len(self.running)

    def keep_pace(self) -> None:
        """Take note that an outcome is there."""
        now = time.perf_counter()
        pace_s = now - self.last_s
        share = PACE_SHARE if self.pace_s else 1.0
        self.pace_s += share * (pace_s - self.pace_s)
        self.last_s = now


class EngineQueues:
    """The queues of a pool, made when they are first asked for."""

    def __init__(self, registry: Registry, fleet: Fleet) -> None:
        self._registry = registry
        self._fleet = fleet
        self._queues: dict[str, EngineQueue] = {}
        self._by_expert: dict[tuple[str, int], EngineQueue] = {}

    def __iter__(self) -> Iterator[EngineQueue]:
        return iter(self._queues.values())

    def __getitem__(self, copy_key: str) -> EngineQueue:
        return self._queues[copy_key]

    def of(self, expert: str, replica: int = 0) -> EngineQueue:
        """The queue of a copy of the engine that serves an expert.

        Raises:
            ConfigError: There is no such expert.
        """
        queue = self._by_expert.get((expert, replica))
        if queue is None:
            spec = replace(self._registry.engine_spec(expert), replica=replica)
            pinned = any(self._registry.experts[name].pinned for name in spec.experts)
            queue = EngineQueue(spec, backend_entry(spec.engine).is_local, pinned)
            queue = self._queues.setdefault(spec.copy_key, queue)
            self._by_expert[expert, replica] = queue
        return queue

    def free_copy(self, expert: str) -> int:
        """The copy of an expert's engine that a new request goes to.

        The one with the fewest open requests of those that there are; a further one, where
        experts.yaml allows it, once all of them have a full batch.
        """
        spec = self.of(expert).spec
        allowed = self._registry.experts[spec.experts[0]].replicas
        n_open = [self.of(expert, replica).n_open for replica in range(allowed)]
        full = int(spec.engine_args.get("max_num_seqs", FULL_BATCH))
        begun = next((n for n in range(1, allowed) if min(n_open[:n]) < full), allowed)
        return n_open.index(min(n_open[:begun]))

    def others(self, queue: EngineQueue) -> list[tuple[EngineQueue, str | None]]:
        """All other local engines' queues, and the machine that each has a slot of."""
        found: list[tuple[EngineQueue, str | None]] = []
        for other in self:
            if other is not queue and other.is_local:
                is_busy = other.loading is not None or bool(other.running)
                nodes = self._fleet.nodes_for(other.spec) if is_busy else ()
                found.append((other, nodes[0] if nodes else None))
        return found
