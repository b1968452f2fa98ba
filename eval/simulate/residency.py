"""Which requests need a load under a policy: the pool's own policies over a whole trace."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from composer.pool.eviction import EVICTIONS, EvictionName, Use

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eval.simulate.trace import Float64Array, Int64Array


@dataclass(frozen=True)
class Runs:
    """r runs: requests to one expert that come one after the other."""

    expert: Int64Array
    """[r] int64."""
    n_requests: Int64Array
    """[r] int64."""
    work_s: Float64Array
    """Seconds of all its requests, [r] float64."""
    after: Int64Array
    """The last run that any of its requests waits for, -1: none; [r] int64."""


@dataclass(frozen=True)
class Loads:
    """Where a policy loads an expert, and who makes room."""

    is_load: NDArray[np.bool_]
    """Whether a run begins with a load, [r] bool."""
    loaded: list[int]
    """The run that each eviction makes room for, in order."""
    evicted: list[int]
    """The last run before of the expert that goes."""


def find_loads(
    runs: Runs, size: Int64Array, load_s: Float64Array, capacity: int, policy: EvictionName
) -> Loads:
    """Run the experts one after the other in memory that holds `capacity`.

    An expert is loaded when it is asked and not there; then others go, the least worth first, until
    it fits. A heap holds what every use made an expert worth; what a later use outdated is skipped.

    Args:
        runs: In the order in which they are run.
        size: What each expert takes of `capacity`, [m] int64; none is larger than all of it.
        load_s: Seconds of each expert's load, [m].
        capacity: In the unit of `size`.
        policy: One of `EVICTIONS`; its worth is computed for the whole trace at once.
    """
    eviction = EVICTIONS[policy]
    worth = eviction.worth(_uses(runs, size, load_s)).tolist()
    sizes = size.tolist()
    last_run = [-1] * len(sizes)
    is_load = np.zeros(len(runs.expert), bool)
    loaded: list[int] = []
    evicted: list[int] = []
    heap: list[tuple[float, int, int]] = []
    floor, held, bound = 0.0, 0, 4 * len(sizes) + 64
    for run, (expert, value) in enumerate(zip(runs.expert.tolist(), worth, strict=True)):
        if last_run[expert] < 0:
            is_load[run] = True
            held += sizes[expert]
            while held > capacity:
                least, used, victim = heappop(heap)
                if last_run[victim] == used:
                    last_run[victim] = -1
                    held -= sizes[victim]
                    loaded.append(run)
                    evicted.append(used)
                    if eviction.ages:
                        floor = least
        last_run[expert] = run
        heappush(heap, (value + floor, run, expert))
        if len(heap) > bound:
            heap = [entry for entry in heap if last_run[entry[2]] == entry[1]]
            heapify(heap)
    return Loads(is_load, loaded, evicted)


def _uses(runs: Runs, size: Int64Array, load_s: Float64Array) -> Use[Float64Array]:
    """What is known of the expert of each run once it has run, as columns [r]."""
    n = len(runs.expert)
    by_expert = np.argsort(runs.expert, kind="stable")
    is_first = np.diff(runs.expert[by_expert], prepend=-1) != 0
    next_use = np.full(n, np.inf)
    next_use[by_expert[:-1]] = np.where(is_first[1:], np.inf, by_expert[1:])
    sums = np.cumsum(runs.n_requests[by_expert]).astype(np.float64)
    of_others = np.where(is_first, sums - runs.n_requests[by_expert], 0.0)
    uses = np.empty(n)
    uses[by_expert] = sums - np.maximum.accumulate(of_others)
    return Use(
        at=np.arange(n, dtype=np.float64),
        uses=uses,
        load_s=load_s[runs.expert],
        bytes=size[runs.expert].astype(np.float64),
        next_use=next_use,
    )
