"""In which order requests are run: as they arrive, by expert within windows, or all by expert."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eval.simulate.trace import Trace

if TYPE_CHECKING:
    from eval.simulate.trace import Float64Array, Int64Array


def arrival_order(trace: Trace) -> Int64Array:
    """Row numbers [n] as the requests arrive."""
    return np.arange(len(trace), dtype=np.int64)


def windowed_order(trace: Trace, work_s: Float64Array, window: int) -> Int64Array:
    """Row numbers [n] by expert within each `window` requests that arrive one after the other.

    Within a window (and stage of it) the expert that was asked last comes first: it is the
    likeliest to be loaded still. Of those not asked yet, who most stages ask comes last, so that
    the next stage begins with it; before that, who has most to do comes first.

    Args:
        trace: n requests.
        work_s: Seconds of each request, [n].
        window: Requests; n or more: one load for each expert and stage, or fewer.
    """
    n_experts = len(trace.experts)
    block = np.arange(len(trace)) // window * trace.n_stages + trace.stage
    pairs, pair = np.unique(block * n_experts + trace.expert, return_inverse=True)
    last_asked = (-1 - _rank(trace, work_s)).tolist()
    place = np.empty(len(pairs), np.int64)
    first = np.flatnonzero(np.diff(pairs // n_experts, prepend=-1)).tolist()
    asked: list[int] = (pairs % n_experts).tolist()
    for start, end in pairwise([*first, len(pairs)]):
        latest_first = sorted(range(start, end), key=lambda i: -last_asked[asked[i]])
        for number, i in enumerate(latest_first, start):
            last_asked[asked[i]] = place[i] = number
    return np.argsort(place[pair], kind="stable").astype(np.int64)


def grouped_order(trace: Trace, work_s: Float64Array) -> Int64Array:
    """Row numbers [n] stage by stage, all requests to an expert together.

    Source: Symbolic-MoE (arXiv 2503.05641), batch inference: the queries are grouped by expert, so
    that each is loaded once; here also over stages, which the paper's one aggregator ends.
    """
    return windowed_order(trace, work_s, len(trace))


def _rank(trace: Trace, work_s: Float64Array) -> Int64Array:
    """The place of each expert among all, [m]."""
    n_experts = len(trace.experts)
    pairs = np.unique(trace.expert * trace.n_stages + trace.stage)
    n_stages = np.bincount(pairs // trace.n_stages, minlength=n_experts)
    total_s = np.bincount(trace.expert, work_s, minlength=n_experts)
    rank = np.empty(n_experts, np.int64)
    rank[np.lexsort((-total_s, n_stages))] = np.arange(n_experts)
    return rank
