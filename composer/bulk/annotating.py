"""The first pass over a batch, for routers that ask experts about a query before they score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from composer.bulk.driver import BulkRun
from composer.bulk.journal import Journal
from composer.bulk.lines import Batch
from composer.bulk.progress import OnProgress
from composer.bulk.stages import StagePlanner
from composer.bulk.window import Flows
from composer.composed import Composed
from composer.errors import ComposerError
from composer.flow import FlowRun
from composer.protocols import Flow
from composer.types import Annotation, Outcome

FILE = "annotations.jsonl"


@dataclass(frozen=True, slots=True)
class Annotations:
    """What was found out about each query."""

    annotation: Callable[[int], Annotation | None]
    """A row's; None: the router needs none, or asking for it failed."""
    outcomes: Callable[[int], Sequence[Outcome]]
    """What a row's annotation is made of."""


NONE = Annotations(lambda row: None, lambda row: ())
"""No query is annotated."""


async def annotate_batch(
    batch: Batch,
    composed: Composed,
    planner: StagePlanner,
    folder: Path,
    stack: ExitStack,
    window: int,
    on_progress: OnProgress,
) -> Annotations:
    """Run the flows by which the composition's router annotates queries, if it does.

    Args:
        batch: The queries.
        composed: Its router annotates.
        planner: Says whose turn it is.
        folder: The run's.
        stack: Closes the journal that annotations are read from.
        window: Queries that an engine is asked of at one time.
        on_progress: Called whenever something has come of it.

    Raises:
        ConfigError: An engine is too large, or the run's folder cannot be written.
    """
    router = composed.router
    if router.annotate(batch.query(0)) is None:
        return NONE

    def make(row: int) -> Flow[Annotation | None]:
        flow = router.annotate(batch.query(row))
        if flow is None:
            return None
        return (yield from flow)

    journal = Journal(folder / FILE, len(batch), {"the batch file": batch.digest[:12]})
    stack.enter_context(journal)

    def finish(row: int, found: FlowRun[Annotation | None] | ComposerError) -> None:
        journal.finish(row, 0, failed=isinstance(found, ComposerError))

    flows = Flows("annotate", len(batch), make, finish)
    run = BulkRun(flows, journal, planner.pool, planner, window=window, on_progress=on_progress)
    await run.run()

    def annotation(row: int) -> Annotation | None:
        replayed = FlowRun(make(row))
        try:
            replayed.start()
            for outcome in journal.outcomes(row):
                replayed.deliver([outcome])
        except ComposerError:
            return None
        return replayed.result

    return Annotations(annotation, journal.outcomes)
