"""What the first k of a ranking hold when equals share their places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.arrays import Float64Array, FloatArray, Int64Array


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Running totals of values along a ranking, known at the ends of its groups of equals."""

    count: Int64Array
    """Items up to the end of each group [g + 1]; starts with 0."""
    total: Float64Array
    """The sum of their values [g + 1]; starts with 0."""

    def at(self, k: FloatArray | Int64Array) -> Float64Array:
        """The expected sum of the first k: a group that k cuts gives the same share of each."""
        return np.interp(k, self.count, self.total)


def shared_prefix(key: FloatArray, *values: FloatArray) -> list[SharedPrefix]:
    """Rank by falling key and sum the values of equals together, each kind of values apart.

    So that the order of a file never decides: any order of equals has the same expectation, which
    is linear in how many of the group are taken.

    Args:
        key: What ranks, [n], n >= 1, all known.
        values: What is summed, [n] each, all known.
    """
    order = np.argsort(key)[::-1]
    ordered = key[order]
    end = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    count = np.append(0, end)
    running = (np.cumsum(value[order], dtype=np.float64)[end - 1] for value in values)
    return [SharedPrefix(count, np.append(0.0, total)) for total in running]
