"""A merge sort that asks: comparisons that do not depend on each other are yielded together. Pure.

items      0   1   2   3   4   5
level 1    0  (1   2)  3  (4   5)      two comparisons at once
level 2   (0   1   2) (3   4   5)      two at once, twice at most
level 3   (0   1   2   3   4   5)      one after the other, five at most
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

Pair = tuple[int, int]
"""Two items to be compared; the first is the one that ties prefer."""


def merge_sort(n_items: int) -> Generator[list[Pair], Sequence[bool], list[int]]:
    """Sort the items 0..n_items-1 by comparisons that somebody else makes.

    Yields the next pairs, is sent whether the second of each won, and returns the items, best
    first. The merges of one level go on side by side. No pair is compared twice, and an item that
    does not win stays behind: the sort is stable.

    Source: Knuth, The Art of Computer Programming, volume 3, section 5.2.4.
    """
    runs = [list(run) for run in _runs(n_items, _n_leaves(n_items))]
    while len(runs) > 1:
        halves = list(zip(runs[::2], runs[1::2], strict=True))
        merged: list[list[int]] = [[] for _ in halves]
        while running := [i for i, (better, worse) in enumerate(halves) if better and worse]:
            second_won = yield [(halves[i][0][0], halves[i][1][0]) for i in running]
            for i, won in zip(running, second_won, strict=True):
                merged[i].append(halves[i][won].pop(0))
        runs = [[*m, *better, *worse] for m, (better, worse) in zip(merged, halves, strict=True)]
    return runs[0]


def comparisons(order: Sequence[int]) -> int:
    """How many comparisons `merge_sort` makes where it returns this order of 0..c-1.

    A merge keeps the order in each of its halves and ends when one is used up. So it saves what is
    then left of the other: its items that stand behind all of the first in the order.
    """
    place = {item: at for at, item in enumerate(order)}
    made, n_runs = 0, _n_leaves(len(order))
    while n_runs > 1:
        runs = _runs(len(order), n_runs)
        for better, worse in zip(runs[::2], runs[1::2], strict=True):
            if better and worse:
                end = min(max(place[i] for i in better), max(place[i] for i in worse))
                made += sum(place[i] <= end for i in (*better, *worse))
        n_runs //= 2
    return made


def most_comparisons(n_items: int) -> int:
    """The most that `merge_sort` makes of c items: c * ceil(log2 c) - 2 ** ceil(log2 c) + 1."""
    n_leaves = _n_leaves(n_items)
    return n_items * (n_leaves.bit_length() - 1) - n_leaves + 1


def _n_leaves(n_items: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(0, n_items - 1).bit_length()


def _runs(n_items: int, n_runs: int) -> list[range]:
    """The items in that many runs, whose lengths differ by at most 1; some may be empty."""
    ends = [n_items * i // n_runs for i in range(n_runs + 1)]
    return [range(start, end) for start, end in pairwise(ends)]
