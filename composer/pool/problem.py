"""What a planner is asked, as arrays: rows by engine, seconds of work, and where engines fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from composer.errors import ConfigError
from composer.pool.makespan import Work
from composer.pool.stages import EngineCost, Node, Waiting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]

_GIB = 1 << 30


@dataclass(frozen=True)
class Problem:
    """What is to be planned."""

    waiting: Waiting
    engines: Sequence[EngineCost]
    nodes: Sequence[Node]
    rows: Int64Array
    """Row numbers by engine, each engine's oldest first, [n]."""
    work: Work
    node: Int64Array
    """The node of each slot, ascending."""

    @property
    def is_tight(self) -> bool:
        """Whether the largest engines that wait do not all fit that a node's slots could take."""
        waits = np.diff(self.work.first) > 0
        sizes = sorted(
            e.memory_bytes for e, is_one in zip(self.engines, waits, strict=True) if is_one
        )
        return any(
            sum([size for size in sizes if size <= node.memory_bytes][-node.slots :])
            > node.memory_bytes
            for node in self.nodes
        )


def make_problem(waiting: Waiting, engines: Sequence[EngineCost], nodes: Sequence[Node]) -> Problem:
    """Sort rows by engine and add up their work.

    Raises:
        ConfigError: There is no node, or an engine that is waited for is larger than every node.
        ValueError: `waiting` names an engine that there is not.
    """
    if waiting.engine.max(initial=-1) >= len(engines):
        raise ValueError(f"engine {waiting.engine.max()} is not one of {len(engines)}")
    rows_each = np.bincount(waiting.engine, minlength=len(engines))
    _check_room([engine for engine, n in zip(engines, rows_each, strict=True) if n], nodes)
    rows = _by_engine(waiting, len(engines))
    engine = waiting.engine[rows]
    seconds = (
        waiting.prompt_tokens[rows] / np.array([e.prompt_tokens_per_s for e in engines])[engine]
    )
    completion_per_s = np.array([e.completion_tokens_per_s for e in engines])
    seconds += waiting.completion_tokens[rows] / completion_per_s[engine]

    node = np.repeat(np.arange(len(nodes)), [n.slots for n in nodes])
    need = np.array([e.memory_bytes for e in engines])
    fits = need[:, None] <= np.array([n.memory_bytes for n in nodes])
    held = np.array([[n.resident.count(e.key) for n in nodes] for e in engines]) * fits
    load_s = np.where(fits, np.array([e.load_s for e in engines])[:, None], np.inf)
    work = Work(
        until_s=np.concatenate([[0.0], np.cumsum(seconds)]),
        first=np.concatenate([[0], np.cumsum(rows_each)]),
        load_s=load_s[:, node],
        is_held=held[:, node] > 0,
        copies=held.sum(axis=1),
        is_ahead=np.array([n.can_load_ahead for n in nodes])[node],
    )
    return Problem(waiting, engines, nodes, rows, work, node)


def _check_room(engines: Sequence[EngineCost], nodes: Sequence[Node]) -> None:
    if not nodes:
        raise ConfigError("requests wait and there is no node; name one at least")
    largest = max(nodes, key=lambda n: n.memory_bytes)
    for engine in engines:
        over = engine.memory_bytes - largest.memory_bytes
        if over > 0:
            raise ConfigError(
                f"engine {engine.key!r} takes {engine.memory_bytes / _GIB:.2f} GiB, "
                f"{over / _GIB:.2f} GiB more than the largest node, {largest.name!r}, has; "
                "give a node more memory, or the engine a shorter context or smaller weights"
            )


def _by_engine(waiting: Waiting, n_engines: int) -> Int64Array:
    # numpy sorts 16-bit integers by radix, in a tenth of the time.
    engine = waiting.engine.astype(np.uint16 if n_engines <= 1 << 16 else np.uint32)
    if waiting.waited_s is None:
        return np.argsort(engine, kind="stable")
    by_age = np.argsort(-waiting.waited_s, kind="stable")
    return by_age[np.argsort(engine[by_age], kind="stable")]
