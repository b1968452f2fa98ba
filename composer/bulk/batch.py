"""A batch from its file to its results: checked, routed, answered, and taken up where it stood."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from composer.appending import AppendedFile, write_whole
from composer.bulk.annotating import Annotations, annotate_batch
from composer.bulk.driver import WINDOW, BulkRun
from composer.bulk.joint import JointChoice
from composer.bulk.journal import Journal
from composer.bulk.limits import NO_LIMITS, Limits, check_limits
from composer.bulk.lines import Batch
from composer.bulk.marginal import LoadSaving
from composer.bulk.progress import BatchProgress, OnProgress, StageRecord
from composer.bulk.results import FILE as RESULTS
from composer.bulk.results import Results
from composer.bulk.routing import Routes, route_batch
from composer.bulk.stages import StagePlanner
from composer.bulk.window import Flows, Known, nothing_known
from composer.composed import Composed, answer_flow
from composer.errors import ComposerError, ConfigError, RoutingError
from composer.experts import Registry
from composer.fingerprint import digest, settings_digest
from composer.flow import FlowRun, complete_answer
from composer.pool.pool import Pool
from composer.protocols import Flow
from composer.tools import PoolTools
from composer.types import Answer

logger = logging.getLogger(__name__)

JOURNAL, REJECTS, STAGES = "journal.jsonl", "rejects.jsonl", "stages.jsonl"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What came of a batch."""

    n_queries: int
    n_answered: int
    n_failed: int
    """Of all queries, in this run and before."""
    n_rejected: int
    """Lines that could not be read."""
    ignored: Mapping[str, int]
    """Settings of OpenAI's bodies that are not taken over, and how many lines have each."""
    saving: LoadSaving | None
    """What a penalty for loads changed; None: the composition has no `load_weight`."""
    joint: JointChoice | None
    """What the limits of the batch changed; None: there are none."""
    loads: int
    """Of this run, as are the next three."""
    completion_tokens: int
    seconds: float
    stages: tuple[StageRecord, ...]
    results: Path
    rejects: Path


async def run_batch(
    path: Path,
    composed: Composed,
    registry: Registry,
    pool: Pool,
    run_dir: Path,
    *,
    limits: Limits = NO_LIMITS,
    strict: bool = False,
    window: int = WINDOW,
    known: Known = nothing_known,
    on_progress: OnProgress = lambda progress: None,
) -> BatchReport:
    """Answer every query of a batch file, once.

    Called again with the same arguments it goes on where it stood, whatever ended it.

    Args:
        path: JSON lines; see `composer.bulk.lines`.
        composed: Routes, chooses and combines.
        registry: The experts; of the pool as well.
        pool: Where they run.
        run_dir: Keeps the journal and the results; made if it does not exist.
        limits: What the queries have to keep to together.
        strict: A line that cannot be read is an error; else it is reported, and the others go on.
        window: Queries that an engine is asked of at one time.
        known: What needs not be asked; see `Composer.batch`.
        on_progress: Called whenever something has come of it.

    Raises:
        ConfigError: The file cannot be read; the folder is another batch's, another run writes
            there or it cannot be written; or an expert does not fit into memory.
        RoutingError: The queries cannot be scored at all.
    """
    began_s = time.monotonic()
    check_limits(composed, limits)
    with ExitStack() as stack:
        batch = stack.enter_context(Batch(path))
        if strict and batch.rejects:
            first = batch.rejects[0]
            raise ConfigError(
                f"{path}:{first.number}: {first.reason}; mend the line, or leave out --strict"
            )
        journal = Journal(run_dir / JOURNAL, len(batch), _identity(batch, composed, registry))
        stack.enter_context(journal)
        _write_rejects(batch, run_dir / REJECTS)
        results = stack.enter_context(Results(run_dir / RESULTS, journal.results_end))
        planner = StagePlanner(registry, pool, last=composed.aggregator.experts)
        annotations = await annotate_batch(
            batch, composed, planner, run_dir, stack, window, on_progress
        )

        def routed(n_done: int) -> None:
            on_progress(BatchProgress("route", len(batch), n_done))

        routes = await route_batch(
            composed, planner, batch, run_dir, annotations.annotation, routed, limits
        )
        await _resolve(routes, pool)
        answering = _Answering(batch, routes, annotations, PoolTools(pool), journal, results)
        stages = stack.enter_context(AppendedFile(run_dir / STAGES))
        run_number = 1 + max((json.loads(line)["run"] for _, line in stages.take_up()), default=0)
        records: list[StageRecord] = []

        def keep(record: StageRecord) -> None:
            records.append(replace(record, run=run_number))
            stages.append(json.dumps(asdict(records[-1])).encode())

        flows = Flows("answer", len(batch), answering.flow, answering.finish, known)
        run = BulkRun(
            flows, journal, pool, planner, window=window, on_progress=on_progress, on_stage=keep
        )
        end = await run.run()
    return BatchReport(
        n_queries=len(batch),
        n_answered=journal.n_done - journal.n_failed,
        n_failed=journal.n_failed,
        n_rejected=len(batch.rejects),
        ignored=batch.ignored,
        saving=routes.saving,
        joint=routes.joint,
        loads=end.loads,
        completion_tokens=end.completion_tokens,
        seconds=time.monotonic() - began_s,
        stages=tuple(records),
        results=run_dir / RESULTS,
        rejects=run_dir / REJECTS,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Answering:
    """The second pass over a batch: every query's aggregator."""

    batch: Batch
    routes: Routes
    annotations: Annotations
    tools: PoolTools
    journal: Journal
    results: Results

    def flow(self, row: int) -> Flow[Answer]:
        """The row's aggregator, from its beginning."""
        selection = self.routes.selection(row)
        if not selection.choices:
            return _refuse(selection.reason)
        query = self.batch.query(row)
        return answer_flow(self.routes.composed.aggregator, query, selection, self.tools)

    def finish(self, row: int, found: FlowRun[Answer] | ComposerError) -> None:
        """Write the row's result, then that it is written."""
        told: Answer | ComposerError
        if isinstance(found, ComposerError):
            told = found
        else:
            sent = [outcome for outcomes in found.history for outcome in outcomes]
            outcomes = [*self.annotations.outcomes(row), *sent]
            told = complete_answer(found.result, self.routes.selection(row), outcomes)
        end = self.results.add(self.batch.line(row), self.routes.composed.name, told)
        self.journal.finish(row, end, failed=isinstance(told, ComposerError))


def _refuse(reason: str) -> Flow[Answer]:
    """The flow of a query that no expert is to answer."""
    raise RoutingError(reason)
    yield


def _identity(batch: Batch, composed: Composed, registry: Registry) -> dict[str, str]:
    """What must be the same when the batch goes on, by names for messages."""
    composition = registry.compositions.get(composed.name)
    made_of = composition.model_dump(mode="json") if composition is not None else composed.name
    return {
        "the batch file": batch.digest[:12],
        "the composition": f"{composed.name}-{digest([made_of, composed.rule.model_dump()])[:12]}",
        **{f"expert {name!r}": settings_digest(registry, name)[:12] for name in registry.experts},
    }


def _write_rejects(batch: Batch, path: Path) -> None:
    lines = [json.dumps({"line": r.number, "reason": r.reason}) + "\n" for r in batch.rejects]
    write_whole(path, "".join(lines))


async def _resolve(routes: Routes, pool: Pool) -> None:
    """Have the models on this disk, so that tokens are counted alike from the first query on."""
    for name in dict.fromkeys([*routes.experts, *routes.composed.aggregator.experts]):
        try:
            await pool.resolve(name)
        except ConfigError as exc:
            logger.debug("%s is not resolved: %s", name, exc)
