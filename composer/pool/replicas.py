"""Which engines are worth a replica: their rows are split between slots, and each pays a load.

Source: the problem, jobs that may be split when each piece pays a load, is Xing and Zhang's
(Discrete Applied Mathematics 103, 2000). Deviation: their heuristic is for slots that are alike and
hold nothing. Here an engine is split because it is too long for a slot, and then one at a time for
as long as that pays; the bound is a count of what fits into so many seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from composer.pool.makespan import Assignment, Work, improved, longest_first, totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

MIN_GAIN = 0.005
"""By this share at least replicas shorten a plan: what is expected is hardly surer than that."""
_BISECTIONS = 60
_TINY = 1e-300
"""Instead of 0 seconds, where all is done in no time."""


def lower_bound_s(work: Work) -> float:
    """Seconds before which no plan ends, whatever is split; something must wait."""
    return _bound(work).end_s


def split(work: Work) -> Assignment:
    """Parts on slots, with replicas where each round of them shortens it by `MIN_GAIN`."""
    bound = _bound(work)
    best = now = improved(work, longest_first(work, _cut(work, bound)))
    best_s, tries = _end_s(work, best), 0
    while best_s > bound.end_s * (1 + MIN_GAIN) and tries < work.load_s.shape[1]:
        more = _with_replica(work, now)
        if more is None:
            break
        now, tries = improved(work, more), tries + 1
        if _end_s(work, now) < best_s * (1 - MIN_GAIN):
            best, best_s, tries = now, _end_s(work, now), 0
    return best


def _end_s(work: Work, parts: Assignment) -> float:
    return float(totals(work.seconds(parts), parts.slot).max())


@dataclass(frozen=True)
class _Bound:
    """The seconds that all slots need at least, and the replicas that each engine has then, [m]."""

    end_s: float
    held: Int64Array
    """Replicas that need no load."""
    loading: Int64Array
    load_s: Float64Array


def _bound(work: Work) -> _Bound:
    """The least seconds T that could do.

    A replica does T less its load in T seconds, so an engine needs so many of them at least; and
    all slots together have s times T for the work and the loads.
    """
    work_s, slots = np.diff(work.until_s[work.first]), work.load_s.shape[1]
    waits = np.diff(work.first) > 0
    load_s = np.zeros(len(work_s)) if work.is_ahead.any() else work.load_s.min(axis=1)
    load_s, held = np.where(waits, load_s, 0.0), work.copies
    most = np.isfinite(work.load_s).sum(axis=1)

    def loading(end_s: float) -> Float64Array:
        """How many replicas have to load; inf: no number of them does it."""
        left, room = np.maximum(work_s - held * end_s, 0.0), np.maximum(end_s - load_s, 0.0)
        needed = np.full(len(left), np.inf)
        np.divide(left, room, out=needed, where=room > 0)
        return np.where(left > 0, np.ceil(needed), held == 0)

    low, high = 0.0, float((work_s + load_s).sum())
    for _ in range(_BISECTIONS):
        end_s = (low + high) / 2
        n = loading(end_s)
        does = (n + (n > 0) * held <= most)[waits].all()
        does = does and work_s.sum() + n[waits] @ load_s[waits] <= end_s * slots
        low, high = (low, end_s) if does else (end_s, high)
    used = np.minimum(held, np.ceil(work_s / max(high, _TINY)))
    return _Bound(low, used.astype(np.int64), loading(high).astype(np.int64), load_s)


def _cut(work: Work, bound: _Bound) -> Assignment:
    """Each engine that has rows in as many parts as it has replicas, as far as rows allow.

    What the replicas of an engine take is alike: those that load get less of the work.
    """
    rows: list[tuple[int, int, int]] = []
    for engine in np.flatnonzero(np.diff(work.first)).tolist():
        lo, hi = int(work.first[engine]), int(work.first[engine + 1])
        begin_s, end_s = float(work.until_s[lo]), float(work.until_s[hi])
        room_s = [bound.end_s] * int(bound.held[engine])
        room_s += [bound.end_s - float(bound.load_s[engine])] * int(bound.loading[engine])
        shares = np.cumsum(np.array(room_s)) / max(sum(room_s), _TINY)
        at = np.searchsorted(work.until_s, begin_s + shares * (end_s - begin_s))
        inner: list[int] = np.clip(at, lo, hi).tolist()
        rows += [(engine, a, b) for a, b in pairwise(sorted({lo, *inner[:-1], hi}))]
    engine, lo, hi = np.array(rows, np.int64).T
    return Assignment(engine, lo, hi, np.zeros(len(rows), np.int64))


def _with_replica(work: Work, parts: Assignment) -> Assignment | None:
    """The parts, with one of the slot that ends last split so that another slot takes a share.

    None: every load costs more than it would save, or there is no row to spare.
    """
    total = totals(work.seconds(parts), parts.slot)
    last = int(np.argmax(total))
    mine = np.flatnonzero((parts.slot == last) & (parts.hi - parts.lo > 1))
    engine = parts.engine[mine]
    is_free = np.bincount(parts.engine, minlength=len(work.copies)) < work.copies
    load_s = np.where(work.is_held[engine] & is_free[engine][:, None], 0.0, work.load_s[engine])
    work_s = work.until_s[parts.hi[mine]] - work.until_s[parts.lo[mine]]
    share = (total[last] - total - load_s) / 2
    share = np.where(share < work_s[:, None], share, 0.0)
    if not share.max(initial=0.0) > 0:
        return None
    number, to = np.unravel_index(np.argmax(share), share.shape)
    part = mine[number]
    lo, hi = int(parts.lo[part]), int(parts.hi[part])
    until_s = float(work.until_s[hi] - share.max())
    cut = min(max(int(np.searchsorted(work.until_s, until_s)), lo + 1), hi - 1)
    kept = parts.hi.copy()
    kept[part] = cut
    return Assignment(
        np.append(parts.engine, parts.engine[part]),
        np.append(parts.lo, cut),
        np.append(kept, hi),
        np.append(parts.slot, to),
    )
