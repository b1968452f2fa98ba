"""Which slot does which part of the work, so that the slot that ends last ends early.

A part is a run of rows of one engine: all of them, or a replica's share. It costs its work and,
unless the slot's node holds the engine, a load. What is looked at here are sums of seconds a
slot; what memory and loads ahead make of them is in `composer.pool.timeline`.

Source: the longest first is Graham's LPT (SIAM J. Appl. Math. 17(2), 1969); since seconds differ by
slot, a part goes where it ends first, not where least was given out. What follows is an iterated
local search (Lourenço, Martin, Stützle, in Handbook of Metaheuristics, 2003) with a fixed seed,
which ends near the lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]
    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

_PRECISION = 1e-9
"""Relative: seconds that differ by less are the same, as sums in another order do."""
_CLOSE = 1e-3
"""Relative: so near to the lower bound nothing is searched for any more."""
_KICKS = 12
"""How often a local optimum is shaken up. Of 600 small cases 10 leave two 2 % above the best."""


@dataclass(frozen=True)
class Work:
    """What waits, sorted by engine, and what it takes on each slot; m engines, s slots."""

    until_s: Float64Array
    """Seconds of generation of all rows before each, [n + 1], ascending."""
    first: Int64Array
    """The row at which each engine's rows begin, and n at the end, [m + 1]."""
    load_s: Float64Array
    """Seconds of each engine's load on each slot, [m, s]; inf: it does not fit."""
    is_held: BoolArray
    """Whether a slot's node holds the engine already, [m, s]."""
    copies: Int64Array
    """How many nodes hold each engine already, [m]: so many of its parts may need no load."""
    is_ahead: BoolArray
    """Whether a slot's loads overlap with the work before them, [s]."""

    def loads(self, parts: Assignment) -> Float64Array:
        """Seconds of each part's load on each slot, [parts, s]."""
        order = np.lexsort((parts.lo, parts.engine))
        in_order = parts.engine[order]
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(in_order, in_order)
        is_free = self.is_held[parts.engine] & (rank < self.copies[parts.engine])[:, None]
        return np.where(is_free, 0.0, self.load_s[parts.engine])

    def seconds(self, parts: Assignment) -> Float64Array:
        """What each part takes on each slot, [parts, s]; a load ahead hides behind other work."""
        work, load = (self.until_s[parts.hi] - self.until_s[parts.lo])[:, None], self.loads(parts)
        return np.where(self.is_ahead, np.maximum(work, load), work + load)


@dataclass(frozen=True)
class Assignment:
    """Parts: rows [lo, hi) of an engine, and the slot that each goes to; all [parts]."""

    engine: Int64Array
    lo: Int64Array
    hi: Int64Array
    slot: Int64Array


def totals(seconds: Float64Array, slot: Int64Array) -> Float64Array:
    """Seconds that each slot is given, [s]."""
    each: Float64Array = seconds[np.arange(len(slot)), slot]
    total = np.zeros_like(seconds[0])
    np.add.at(total, slot, each)
    return total


def whole(work: Work) -> Assignment:
    """One part for each engine that has rows, all on the first slot."""
    engine = np.flatnonzero(np.diff(work.first))
    lo, hi = work.first[engine], work.first[engine + 1]
    return Assignment(engine, lo, hi, np.zeros(len(engine), np.int64))


def longest_first(work: Work, parts: Assignment) -> Assignment:
    """The parts, each on the slot where it ends first, the longest chosen for first."""
    seconds = work.seconds(parts)
    order = np.argsort(-seconds.min(axis=1), kind="stable")
    slot = np.zeros(len(order), np.int64)
    total = np.zeros_like(seconds[0])
    _insert(seconds, slot, total, order)
    return replace(parts, slot=slot)


def improved(work: Work, parts: Assignment) -> Assignment:
    """The parts on slots of which the last ends earlier, if such are found; the same parts.

    Parts are moved off the slot that ends last, or swapped, as long as that helps; then some slots
    are shaken up, and it begins anew. In the end parts go back to nodes that hold their engine, as
    far as nothing ends later for it.
    """
    seconds = work.seconds(parts)
    least, slots = seconds.min(axis=1), seconds.shape[1]
    enough_s = max(least.max(), least.sum() / slots) * (1 + _CLOSE)
    rng = np.random.default_rng(0)
    best, best_total = _descended(seconds, parts.slot)
    for _ in range(_KICKS):
        if best_total.max() <= enough_s or slots == 1:
            break
        shaken = np.zeros(slots, np.bool_)
        shaken[rng.permutation(slots)[:2]] = shaken[np.argmax(best_total)] = True
        slot = best.copy()
        moved = rng.permutation(np.flatnonzero(shaken[slot]))
        _insert(seconds, slot, np.where(shaken, 0.0, best_total), moved)
        slot, total = _descended(seconds, slot)
        if total.max() < best_total.max() * (1 - _PRECISION):
            best, best_total = slot, total
    return replace(parts, slot=_sent_home(seconds, best, work.loads(parts)))


def _insert(
    seconds: Float64Array, slot: Int64Array, total: Float64Array, order: Int64Array
) -> None:
    """Put parts, in this order, where each ends first; `slot` and `total` are changed."""
    for part in order.tolist():
        slot[part] = np.argmin(total + seconds[part])
        total[slot[part]] += seconds[part, slot[part]]


def _descended(seconds: Float64Array, start: Int64Array) -> tuple[Int64Array, Float64Array]:
    """The slots, and their totals, once no move or swap off the last slot helps any more."""
    slot, every = start.copy(), np.arange(len(start))
    total = totals(seconds, slot)
    while True:
        last = np.argmax(total)
        is_last = slot == last
        mine = every[is_last]
        now = seconds[every, slot]
        freed = (total[last] - seconds[mine, last])[:, None]
        move = np.maximum(freed, total + seconds[mine])
        swap = np.maximum(freed + seconds[:, last], (total[slot] - now) + seconds[mine][:, slot])
        move[:, last] = np.inf
        swap[:, is_last] = np.inf
        best_move, best_swap = move.min(initial=np.inf), swap.min(initial=np.inf)
        if not min(best_move, best_swap) < total[last] * (1 - _PRECISION):
            return slot, total
        if best_move <= best_swap:
            part, to = np.unravel_index(np.argmin(move), move.shape)
            slot[mine[part]] = to
        else:
            part, other = np.unravel_index(np.argmin(swap), swap.shape)
            slot[mine[part]], slot[other] = slot[other], last
        total = totals(seconds, slot)


def _sent_home(seconds: Float64Array, start: Int64Array, load_s: Float64Array) -> Int64Array:
    """The slots once what needs no load elsewhere has gone there, where no slot ends last by it."""
    slot = start.copy()
    total = totals(seconds, slot)
    end = total.max()
    for part in np.flatnonzero(load_s[np.arange(len(slot)), slot] > load_s.min(axis=1)):
        ends = np.where(load_s[part] == load_s[part].min(), total + seconds[part], np.inf)
        to = np.argmin(ends)
        if ends[to] <= end:
            total[slot[part]] -= seconds[part, slot[part]]
            total[to] = ends[to]
            slot[part] = to
    return slot
