"""All queries of a batch are routed before any is answered; scores are kept on disk.

A batch of n queries and m experts keeps n x m float32 in a file that is mapped, not read; the
selection of a query is made again from its row whenever its flow is. Under a budget a second file
has each query's expert.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from composer.appending import unwritable, write_whole
from composer.bulk.joint import JointChoice, allotted, share_budget, share_choices
from composer.bulk.limits import NO_LIMITS, Limits
from composer.bulk.lines import Batch
from composer.bulk.marginal import LoadSaving, marginal_load_s
from composer.bulk.stages import StagePlanner
from composer.composed import Composed, expected_cost, select
from composer.errors import ConfigError
from composer.experts import Registry
from composer.trim import trimmed
from composer.types import Annotation, Evidence, Scores, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]
    Int16Array = NDArray[np.int16]

CHUNK = 1024
"""Queries that a router scores at one time."""
SCORES, CHOSEN, ABOUT = "scores.npy", "chosen.npy", "routes.json"
FROM_DISK = Evidence("as scored when the batch was routed")
_JOINT: TypeAdapter[JointChoice | None] = TypeAdapter(JointChoice | None)


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

    joint: JointChoice | None = None
    """What limits changed; None: there are none."""
    chosen: Int16Array | None = None
    """The columns of the experts under a budget [n], on disk; -1: nobody."""

    def selection(self, row: int) -> Selection:
        """The experts of a row's query.

        Raises:
            RoutingError: No expert is available.
        """
        if self.joint is None:
            return self._free(row, row + 1)[0]
        if self.joint.spending is None:
            (free,), joint = self._free(row, row + 1), self.joint
            return trimmed(free, joint.frequent, joint.rare, joint.n_choices)
        assert self.chosen is not None, "a budget has chosen"
        query, composed = self.batch.query(row), self.composed
        return allotted(
            self._scores(row, row + 1),
            query.id,
            composed.rule,
            self.joint,
            int(self.chosen[row]),
            router=composed.router.name,
            cost=expected_cost(
                self.registry, [query], self.experts, self.joint.spending.budget.kind
            ),
        )

    def free_selections(self) -> Generator[Selection]:
        """Those of all rows, as they are without limits."""
        for begin in range(0, len(self.batch), CHUNK):
            yield from self._free(begin, min(begin + CHUNK, len(self.batch)))

    def _free(self, begin: int, end: int) -> list[Selection]:
        queries = [self.batch.query(row) for row in range(begin, end)]
        scores = self._scores(begin, end)
        return select(self.composed, self.registry, queries, scores, self.load_s)

    def _scores(self, begin: int, end: int) -> Scores:
        quality = np.array(self.quality[begin:end])
        return Scores(self.experts, quality, lambda row, column: FROM_DISK)


async def route_batch(
    composed: Composed,
    planner: StagePlanner,
    batch: Batch,
    folder: Path,
    annotation: Callable[[int], Annotation | None],
    on_routed: Callable[[int], None],
    limits: Limits = NO_LIMITS,
) -> Routes:
    """Score all queries, or take up the scores that the folder has.

    Args:
        composed: Its router scores; it can keep to the limits.
        planner: Knows the experts, and what their loads cost.
        batch: The queries.
        folder: The run's.
        annotation: A row's, where the router needs them.
        on_routed: Called with the number of queries that are.
        limits: What the queries have to keep to together.

    Raises:
        RoutingError: The queries cannot be scored at all.
        ConfigError: The folder cannot be written, or has the scores of other limits; or no choice
            keeps within these.
    """
    about, registry, rule = folder / ABOUT, planner.registry, composed.rule
    if about.exists():
        return _take_up(composed, registry, batch, folder, limits)
    kind = "usd" if limits.budget is None else limits.budget.kind
    experts: tuple[str, ...] = ()
    spent: list[Float64Array] = []
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
        if rule.load_weight or limits.budget is not None:
            spent.append(expected_cost(registry, queries, experts, kind))
        on_routed(rows.stop)
    assert written is not None, "a batch has a query"
    written.flush()
    load_s, saving = np.zeros(len(experts), np.float32), None
    if rule.load_weight:
        loads = np.array([planner.load_s(name) for name in experts], np.float32)
        costs = np.concatenate(spent).astype(np.float32)
        load_s, saving = marginal_load_s(experts, written, costs, loads, rule)
    routes = Routes(composed, registry, batch, experts, written, load_s, saving)
    if limits.budget is not None:
        scores = Scores(experts, written, lambda row, column: FROM_DISK)
        columns, joint = await asyncio.to_thread(
            share_budget, scores, np.concatenate(spent), rule, limits
        )
        routes = replace(routes, joint=joint, chosen=_keep(folder / CHOSEN, columns))
    elif limits.min_share:
        joint = await asyncio.to_thread(share_choices, routes.free_selections, limits.min_share)
        routes = replace(routes, joint=joint)
    kept = {
        "experts": experts,
        "load_s": load_s.tolist(),
        "saving": None if saving is None else asdict(saving),
        "limits": limits.told,
        "joint": _JOINT.dump_python(routes.joint, mode="json"),
    }
    write_whole(about, json.dumps(kept))
    return routes


def _take_up(
    composed: Composed, registry: Registry, batch: Batch, folder: Path, limits: Limits
) -> Routes:
    kept = json.loads((folder / ABOUT).read_text("utf-8"))
    was: dict[str, str] = kept.get("limits", NO_LIMITS.told)
    for what, value in limits.told.items():
        if was[what] != value:
            raise ConfigError(
                f"{folder / ABOUT}: {what} is another than when the run began ({was[what]} then, "
                f"{value} now); restore it, or name another folder"
            )
    joint = _JOINT.validate_python(kept.get("joint"))
    return Routes(
        composed,
        registry,
        batch,
        tuple(kept["experts"]),
        np.load(folder / SCORES, mmap_mode="r"),
        np.array(kept["load_s"], np.float32),
        None if kept["saving"] is None else LoadSaving(**kept["saving"]),
        joint,
        np.load(folder / CHOSEN, mmap_mode="r") if joint is not None and joint.spending else None,
    )


def _keep(path: Path, columns: NDArray[np.int64]) -> Int16Array:
    """Write the columns of experts, to be read before what says that they are there."""
    chosen = columns.astype(np.int16)
    try:
        np.save(path, chosen)
    except OSError as exc:
        raise unwritable(path, exc) from exc
    return chosen


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
