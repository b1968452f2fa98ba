"""When each run begins and ends, and in which slot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.simulate.residency import Loads, Runs

if TYPE_CHECKING:
    from eval.simulate.trace import Float64Array, Int64Array


@dataclass(frozen=True)
class Schedule:
    """r runs in time; a slot is what loads or generates for one expert at a time."""

    slot: Int64Array
    """[r] int64."""
    start_s: Float64Array
    """When its load, its switch or else its work begins, [r] float64, never falling."""
    ready_s: Float64Array
    """When its work begins, [r] float64."""
    end_s: Float64Array
    """[r] float64."""

    @property
    def seconds(self) -> float:
        """Until all is done."""
        return float(self.end_s.max())


def make_schedule(
    runs: Runs, loads: Loads, load_s: Float64Array, *, slots: int, switch_s: float
) -> Schedule:
    """Start runs in their order, each in the slot that is free first.

    A run begins once its expert's run before has ended, all runs that it waits for have, and, where
    it begins with a load, those of the experts that make room. None begins before the one before it
    in the order. A run that needs no load costs a switch, unless its expert's was the last there.

    Args:
        runs: In order.
        loads: Which of them begin with a load.
        load_s: Seconds of each expert's load, [m].
        slots: How many experts load or generate at one time.
        switch_s: Seconds of a switch.
    """
    if slots == 1:
        wait_s = np.where(loads.is_load, load_s[runs.expert], switch_s)
        end_s = np.cumsum(wait_s + runs.work_s)
        start_s = np.append(0.0, end_s[:-1])
        return Schedule(np.zeros(len(end_s), np.int64), start_s, start_s + wait_s, end_s)
    free_s = [0.0] * slots
    in_slot = [-1] * slots
    expert_s = [0.0] * len(load_s)
    all_end_s: list[float] = []
    rows: list[tuple[int, float, float, float]] = []
    now = latest = 0.0
    room = iter([*zip(loads.loaded, loads.evicted, strict=True), (len(runs.expert), 0)])
    maker = next(room)
    for run, (expert, work, after, is_load) in enumerate(_rows(runs, loads)):
        slot = free_s.index(min(free_s))
        now = max(now, free_s[slot], expert_s[expert], all_end_s[after] if after >= 0 else 0.0)
        while maker[0] == run:
            now = max(now, rows[maker[1]][3])
            maker = next(room)
        wait = float(load_s[expert]) if is_load else switch_s if in_slot[slot] != expert else 0.0
        end = now + wait + work
        free_s[slot] = expert_s[expert] = end
        in_slot[slot] = expert
        latest = max(latest, end)
        all_end_s.append(latest)
        rows.append((slot, now, now + wait, end))
    slot_of, start_s, ready_s, end_s = np.array(rows).T
    return Schedule(slot_of.astype(np.int64), start_s, ready_s, end_s)


def _rows(runs: Runs, loads: Loads) -> Iterator[tuple[int, float, int, bool]]:
    return zip(
        runs.expert.tolist(),
        runs.work_s.tolist(),
        runs.after.tolist(),
        loads.is_load.tolist(),
        strict=True,
    )
