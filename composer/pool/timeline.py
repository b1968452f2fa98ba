"""When each stage of one node loads, starts and ends, within its memory.

Slots take their stages in order. A stage begins when its slot is free and its engine fits beside
what the node holds; slots that have to wait for memory get it in the order in which they asked.
Engines held since before stay until their stage, unless their room is needed. Where the node can
load ahead, one engine at a time is loaded while its slot still generates: that of the slot that is
done first, if it fits whatever the other slots come to hold meanwhile.

Source: of the engines held, the one whose stage is farthest goes first (Belady, IBM Systems Journal
5(2), 1966). The order within a slot is Lawler's rule (Management Science 19(5), 1973), which
finds one that meets all limits of age wherever there is one, for loads that are not ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """All that one slot does for one engine."""

    engine: int
    rows: NDArray[np.int64]
    work_s: float
    load_s: float
    memory_bytes: int
    is_held: bool
    """Whether the node has held the engine since before, for this stage."""
    is_last: bool
    waited_s: float
    """How long its oldest row has waited already."""

    @property
    def seconds(self) -> float:
        """What it takes, one thing after the other."""
        return self.work_s + (0.0 if self.is_held else self.load_s)


@dataclass(frozen=True, slots=True)
class Timed:
    """A job with its times, in seconds from now."""

    slot: int
    job: Job
    is_load: bool
    is_ahead: bool
    start_s: float
    ready_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class NodeRun:
    """What becomes of one node's jobs."""

    stages: tuple[Timed, ...]
    """As they start."""
    peak_bytes: int
    """The most that is held at one time."""

    @property
    def end_s(self) -> float:
        """When the last stage ends."""
        return max((timed.end_s for timed in self.stages), default=0.0)

    @property
    def loads(self) -> int:
        """How many engines are loaded."""
        return sum(timed.is_load for timed in self.stages)

    def exceeds(self, age_limit_s: float | None) -> bool:
        """Whether some request is older than the limit when its stage starts."""
        return age_limit_s is not None and any(
            timed.start_s + timed.job.waited_s > age_limit_s for timed in self.stages
        )


def in_order(jobs: Sequence[Job], age_limit_s: float | None) -> list[Job]:
    """The order of one slot.

    Engines that are held first, those that will be asked again last, then by the age of the oldest
    request, then the longest first. Where a request would grow older than `age_limit_s` before its
    stage starts, the order differs from this as late as it can for none to, or for the one that is
    exceeded most to be exceeded least.
    """
    left = sorted(jobs, key=lambda j: (j.is_last, not j.is_held, -j.waited_s, -j.seconds, j.engine))
    if age_limit_s is None:
        return left
    backwards: list[Job] = []
    total_s = sum(job.seconds for job in left)
    while left:
        over = [max(0.0, total_s - job.seconds + job.waited_s - age_limit_s) for job in left]
        at = max(range(len(left)), key=lambda i: (-over[i], i))
        backwards.append(left.pop(at))
        total_s -= backwards[-1].seconds
    return backwards[::-1]


def run_node(
    queues: Sequence[Sequence[Job]],
    slots: int,
    memory_bytes: int,
    *,
    can_load_ahead: bool,
    can_pass: bool = True,
) -> NodeRun:
    """Go through the stages of one node.

    Args:
        queues: The jobs of each slot, in their order, or one queue that all slots take from; each
            job fits the node's memory alone.
        slots: How many engines generate at one time.
        memory_bytes: What the engines that the node holds may take at one time.
        can_load_ahead: Whether an engine may be loaded while its slot still generates.
        can_pass: Whether a slot may take a later job of a common queue where the first does not
            fit yet.
    """
    node = _Node(queues, slots, memory_bytes)
    while node.advance(can_load_ahead=can_load_ahead, can_pass=can_pass):
        pass
    stages = sorted(node.done, key=lambda timed: (timed.start_s, timed.slot))
    return NodeRun(tuple(stages), node.peak_bytes)


class _Node:
    """One node at one moment."""

    def __init__(self, queues: Sequence[Sequence[Job]], slots: int, memory_bytes: int) -> None:
        self.done: list[Timed] = []
        self._memory_bytes = memory_bytes
        common = [list(queue) for queue in queues]
        self._queues = common * slots if len(queues) == 1 else common
        self._asking = list(range(slots))
        self._running: dict[int, Timed] = {}
        self._ahead: Timed | None = None
        self._loader_free_s = 0.0
        self._now_s = 0.0
        places = [(at, job) for queue in queues for at, job in enumerate(queue) if job.is_held]
        self._held = [job for _, job in sorted(places, key=lambda place: place[0])]
        self._used_bytes = sum(job.memory_bytes for job in self._held)
        self._make_room(0)
        self.peak_bytes = self._used_bytes

    def advance(self, *, can_load_ahead: bool, can_pass: bool) -> bool:
        """Start what can start, then go to the next moment; False: all is done."""
        while self._asking and self._start(self._asking[0], can_pass=can_pass):
            self._asking.pop(0)
        self._asking = [slot for slot in self._asking if self._queues[slot]]
        if can_load_ahead and not self._asking and self._ahead is None:
            self._load_ahead()
        if not self._running:
            return False
        self._now_s = min(t.end_s for t in self._running.values())
        for slot in [s for s, t in self._running.items() if t.end_s == self._now_s]:
            self._used_bytes -= self._running.pop(slot).job.memory_bytes
            if self._ahead is not None and self._ahead.slot == slot:
                self._run(self._ahead)
                self._ahead = None
            else:
                self._asking.append(slot)
        return True

    def _start(self, slot: int, *, can_pass: bool) -> bool:
        """Have a free slot start a job, if it has one left; False: none fits yet."""
        queue = self._queues[slot]
        is_common = len(self._queues) > 1 and self._queues[0] is self._queues[1]
        for job in queue if is_common and can_pass else queue[:1]:
            is_load = job not in self._held
            if is_load and not self._make_room(job.memory_bytes):
                continue
            if is_load:
                self._hold(job)
            else:
                self._held.remove(job)
            queue.remove(job)
            ready_s = self._now_s + (job.load_s if is_load else 0.0)
            self._run(Timed(slot, job, is_load, False, self._now_s, ready_s, ready_s + job.work_s))
            return True
        return not queue

    def _load_ahead(self) -> None:
        """Load the next engine of the slot that is done first, of those whose next one fits."""
        for slot, running in sorted(self._running.items(), key=lambda item: item[1].end_s):
            job = self._queues[slot][0] if self._queues[slot] else None
            start_s = max(self._now_s, self._loader_free_s, running.ready_s)
            if job is None or job in self._held or start_s >= running.end_s:
                continue
            others = [other for other in range(len(self._queues)) if other != slot]
            need = job.memory_bytes + running.job.memory_bytes
            need += sum(self._most_bytes(other) for other in others)
            if need + sum(job.memory_bytes for job in self._held) <= self._memory_bytes:
                self._queues[slot].remove(job)
                self._hold(job)
                self._loader_free_s = start_s + job.load_s
                ready_s = max(self._loader_free_s, running.end_s)
                self._ahead = Timed(slot, job, True, True, start_s, ready_s, ready_s + job.work_s)
                return

    def _run(self, timed: Timed) -> None:
        self._running[timed.slot] = timed
        self.done.append(timed)

    def _hold(self, job: Job) -> None:
        self._used_bytes += job.memory_bytes
        self.peak_bytes = max(self.peak_bytes, self._used_bytes)

    def _make_room(self, need_bytes: int) -> bool:
        """Let go of engines held for later, the farthest first, if that is enough."""
        held = sum(job.memory_bytes for job in self._held)
        if self._used_bytes - held + need_bytes > self._memory_bytes:
            return False
        while self._used_bytes + need_bytes > self._memory_bytes:
            self._used_bytes -= self._held.pop().memory_bytes
        return True

    def _most_bytes(self, slot: int) -> int:
        """The largest engine that a slot has or may come to have."""
        sizes = [job.memory_bytes for job in self._queues[slot]]
        running = self._running.get(slot)
        return max(sizes + ([running.job.memory_bytes] if running is not None else []), default=0)
