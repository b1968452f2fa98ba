"""A trace in several orders, under several policies, on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from composer.errors import ConfigError
from composer.pool.eviction import EVICTIONS, EvictionName
from composer.suggest import unknown_name
from eval.simulate.hardware import Hardware
from eval.simulate.order import arrival_order, grouped_order, windowed_order
from eval.simulate.residency import Runs, find_loads
from eval.simulate.schedule import Schedule, make_schedule
from eval.simulate.trace import Trace

if TYPE_CHECKING:
    from eval.simulate.trace import Float64Array, Int64Array

GROUPED = "grouped"
PLANNED: EvictionName = "belady"
"""Who plans knows the future."""


@dataclass(frozen=True)
class Outcome:
    """What one order and one policy came to."""

    order: str
    policy: EvictionName
    requests: int
    loads: int
    loaded_bytes: int | None
    """What the loads read; None: sizes are unknown."""
    seconds: float
    """Until the last request is done."""
    load_seconds: float
    """Of all loads, whatever runs beside them."""
    schedule: Schedule = field(repr=False)

    @property
    def hit_rate(self) -> float:
        """The share of requests that needed no load."""
        return 1 - self.loads / self.requests


def simulate(
    trace: Trace,
    hardware: Hardware,
    *,
    policies: Sequence[str] = tuple(EVICTIONS),
    windows: Sequence[int] = (),
) -> tuple[Outcome, ...]:
    """Run a trace as it arrives, by windows, and grouped; the last outcome is the grouped one.

    Args:
        trace: n requests, all there from the start.
        hardware: For the trace's experts.
        policies: Of eviction, for all orders but the grouped one, whose future is known.
        windows: Requests that are sorted by expert at a time.

    Raises:
        ConfigError: There is no such policy, or a window is not 1 or more.
    """
    for policy in policies:
        if policy not in EVICTIONS:
            raise ConfigError(unknown_name("policy", policy, EVICTIONS))
    for window in windows:
        if window < 1:
            raise ConfigError(f"a window of {window} requests; give it 1 or more")
    work_s = hardware.work_s(trace)
    orders = {"arrival": arrival_order(trace)}
    orders |= {f"window {w}": windowed_order(trace, work_s, w) for w in windows}
    outcomes: list[Outcome] = []
    for name, order in orders.items():
        runs = make_runs(trace, work_s, order)
        outcomes += [_run(trace, hardware, runs, name, p) for p in EVICTIONS if p in policies]
    runs = make_runs(trace, work_s, grouped_order(trace, work_s))
    return (*outcomes, _run(trace, hardware, runs, GROUPED, PLANNED))


def make_runs(trace: Trace, work_s: Float64Array, order: Int64Array) -> Runs:
    """Put requests to one expert together where they come one after the other.

    Args:
        trace: n requests.
        work_s: Seconds of each, [n].
        order: Row numbers in the order in which they are run, [n].
    """
    expert = trace.expert[order]
    first = np.flatnonzero(np.diff(expert, prepend=-1))
    after = np.full(len(first), -1)
    if trace.n_stages > 1:
        run = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
        query, stage = trace.query[order], trace.stage[order]
        last = np.full((int(query.max()) + 1, trace.n_stages + 1), -1)
        np.maximum.at(last, (query, stage + 1), run)
        waits_for = np.maximum.accumulate(last, axis=1)[query, stage]
        # A run cannot wait for itself: within it requests run in their order.
        waits_for[waits_for == run] = -1
        after = np.maximum.reduceat(waits_for, first)
    return Runs(
        expert[first],
        np.diff(np.append(first, len(order))),
        np.add.reduceat(work_s[order], first),
        after,
    )


def _run(trace: Trace, hardware: Hardware, runs: Runs, order: str, policy: EvictionName) -> Outcome:
    loads = find_loads(runs, hardware.size, hardware.load_s, hardware.capacity, policy)
    schedule = make_schedule(
        runs, loads, hardware.load_s, slots=hardware.slots, switch_s=hardware.switch_s
    )
    loaded = runs.expert[loads.is_load]
    return Outcome(
        order,
        policy,
        len(trace),
        len(loaded),
        int(hardware.bytes[loaded].sum()) if hardware.bytes is not None else None,
        schedule.seconds,
        float(hardware.load_s[loaded].sum()),
        schedule,
    )
