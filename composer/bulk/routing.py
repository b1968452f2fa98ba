"""All queries of a batch are routed before any is answered; scores are kept on disk.

A batch of n queries and m experts keeps n x m float32 in a file that is mapped, not read; the
selection of a query is made again from its row whenever its flow is.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.appending import unwritable, write_whole
from composer.bulk.lines import Batch
from composer.bulk.marginal import LoadSaving, marginal_load_s
from composer.bulk.stages import StagePlanner
from composer.composed import Composed, expected_cost_usd, select
from composer.experts import Registry
from composer.types import Annotation, Evidence, Scores, Selection

if TYPE_CHECKING:
    from composer.types import Float32Array

CHUNK = 1024
"""Queries that a router scores at one time."""
SCORES, ABOUT = "scores.npy", "routes.json"
FROM_DISK = Evidence("as scored when the batch was routed")


@dataclass(frozen=True, eq=False)
class Routes:
    """The scores of a batch, and how experts are chosen by them."""

    composed: Composed
    registry: Registry
    batch: Batch
    experts: tuple[str, ...]
    quality: Float32Array
    """[n, m] float32, on disk."""
    load_s: Float32Array
    """[m]: the seconds of loading that one more query on each expert is held to cost."""
    saving: LoadSaving | None = None
    """What that changed; None: loads have no weight."""

    def selection(self, row: int) -> Selection:
        """The experts of a row's query.

        Raises:
            RoutingError: No expert is available.
        """
        query = self.batch.query(row)
        scores = _scores(self.experts, np.array(self.quality[row : row + 1]))
        (selection,) = select(self.composed, self.registry, [query], scores, self.load_s)
        return selection


async def route_batch(
    composed: Composed,
    planner: StagePlanner,
    batch: Batch,
    folder: Path,
    annotation: Callable[[int], Annotation | None],
    on_routed: Callable[[int], None],
) -> Routes:
    """Score all queries, or take up the scores that the folder has.

    Args:
        composed: Its router scores.
        planner: Knows the experts, and what their loads cost.
        batch: The queries.
        folder: The run's.
        annotation: A row's, where the router needs them.
        on_routed: Called with the number of queries that are.

    Raises:
        RoutingError: The queries cannot be scored at all.
        ConfigError: The folder cannot be written.
    """
    about, registry = folder / ABOUT, planner.registry
    if about.exists():
        kept = json.loads(about.read_text("utf-8"))
        quality = np.load(folder / SCORES, mmap_mode="r")
        load_s = np.array(kept["load_s"], np.float32)
        saving = None if kept["saving"] is None else LoadSaving(**kept["saving"])
        return Routes(composed, registry, batch, tuple(kept["experts"]), quality, load_s, saving)
    experts: tuple[str, ...] = ()
    spent: list[Float32Array] = []
    written: np.memmap[Any, np.dtype[np.float32]] | None = None
    for begin in range(0, len(batch), CHUNK):
        rows = range(begin, min(begin + CHUNK, len(batch)))
        queries = [batch.query(row) for row in rows]
        scores = await asyncio.to_thread(
            composed.router.score, queries, [annotation(row) for row in rows]
        )
        if written is None:
            experts = scores.experts
            written = _room(folder / SCORES, (len(batch), len(experts)))
        written[rows.start : rows.stop] = scores.quality
        if composed.rule.load_weight:
            spent.append(expected_cost_usd(registry, queries, experts))
        on_routed(rows.stop)
    assert written is not None, "a batch has a query"
    written.flush()
    load_s, saving = np.zeros(len(experts), np.float32), None
    if composed.rule.load_weight:
        loads = np.array([planner.load_s(name) for name in experts], np.float32)
        costs = np.concatenate(spent)
        load_s, saving = marginal_load_s(experts, written, costs, loads, composed.rule)
    routes = Routes(composed, registry, batch, experts, written, load_s, saving)
    kept = {
        "experts": experts,
        "load_s": load_s.tolist(),
        "saving": None if saving is None else asdict(saving),
    }
    write_whole(about, json.dumps(kept))
    return routes


def _room(path: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    """A mapped file of float32 that the disk has room for: writing to it cannot fail later."""
    try:
        numpy_format: Any = np.lib.format
        mapped = numpy_format.open_memmap(path, "w+", np.float32, shape)
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as exc:
        raise unwritable(path, exc) from exc
    return mapped


def _scores(experts: tuple[str, ...], quality: Float32Array) -> Scores:
    return Scores(experts, quality, lambda row, column: FROM_DISK)
