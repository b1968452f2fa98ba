"""Which node does which parts where its memory is short, and not only its slots.

Source: list scheduling under resource constraints (Garey and Graham, SIAM J. Comput. 4(2), 1975).
Deviation: the list is in an order of its own for each node: what it holds already, then by length,
then what another node holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from composer.pool.makespan import Assignment, Work
from composer.pool.stages import Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]


def packed(
    work: Work, parts: Assignment, need_bytes: Int64Array, nodes: Sequence[Node]
) -> Assignment:
    """The parts, each for the node that is first to have a slot and the memory for it.

    Args:
        work: By slot; the nodes' slots one after the other. There is no room to load ahead.
        parts: Where they are does not matter.
        need_bytes: Of each engine, [m].
        nodes: Where they go.

    Returns:
        The parts, with the number of a node as their slot.
    """
    work = replace(work, is_ahead=np.zeros_like(work.is_ahead))
    first = np.cumsum([0] + [node.slots for node in nodes[:-1]])
    seconds, load_s = work.seconds(parts)[:, first], work.loads(parts)[:, first]
    is_elsewhere = (load_s > 0) & (load_s.min(axis=1) == 0)[:, None]
    kind = np.where(is_elsewhere, 2, np.where(load_s == 0, 0, 1))
    length = -seconds.min(axis=1)
    lists = [np.lexsort((length, kind[:, number])).tolist() for number in range(len(nodes))]
    need = need_bytes[parts.engine].tolist()
    free = [node.memory_bytes for node in nodes]
    slots = [node.slots for node in nodes]
    chosen = np.full(len(need), -1)
    ends: list[tuple[float, int, int]] = []
    now_s, left = 0.0, len(need)
    while left:
        part, number = None, 0
        for number in sorted(range(len(nodes)), key=lambda number: -free[number]):
            fitting = (p for p in lists[number] if chosen[p] < 0 and need[p] <= free[number])
            part = next(fitting, None) if slots[number] else None
            if part is not None:
                break
        if part is None:
            now_s, part, number = heapq.heappop(ends)
            free[number] += need[part]
            slots[number] += 1
            continue
        chosen[part] = number
        free[number] -= need[part]
        slots[number] -= 1
        left -= 1
        heapq.heappush(ends, (now_s + float(seconds[part, number]), part, number))
    return replace(parts, slot=chosen)
