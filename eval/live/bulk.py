"""A composition asked all questions in bulk, and what its folder then tells of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from composer.bulk import BatchProgress
from composer.bulk.annotating import FILE as ANNOTATIONS
from composer.bulk.batch import JOURNAL
from composer.bulk.journal import Journal
from composer.bulk.lines import PROMPTS, Batch
from composer.bulk.results import FILE as RESULTS
from composer.bulk.routing import route_batch
from composer.bulk.stages import StagePlanner
from composer.bulk.window import Known
from composer.orchestrator import Composer
from composer.types import Completion, Outcome, Query, Selection
from eval.live.answered import Answered, Failed, Said, Took, account


async def answer_in_bulk(
    composer: Composer,
    name: str,
    queries: Sequence[Query],
    folder: Path,
    known: Known,
    on_progress: Callable[[int], None],
) -> list[Answered]:
    """Have a composition answer the queries, each engine loaded as rarely as can be.

    Called again with the same arguments it goes on where it stood.

    Args:
        composer: It has the composition, and its pool runs all.
        name: The composition's.
        queries: With different ids.
        folder: Of the batch.
        known: What needs not be asked.
        on_progress: Called with the number of queries that are done.

    Raises:
        ConfigError: See `Composer.batch`.
        RoutingError: The queries cannot be scored at all.
    """

    def show(progress: BatchProgress) -> None:
        if progress.phase == "answer":
            on_progress(progress.n_done)

    await composer.batch(queries, name, folder, known=known, on_progress=show)
    return await _read(composer, name, folder)


async def _read(composer: Composer, name: str, folder: Path) -> list[Answered]:
    """What a finished batch did with each query, in their order."""
    with ExitStack() as stack:
        batch = stack.enter_context(Batch(folder / PROMPTS))
        routes = await route_batch(
            composer.compositions[name],
            StagePlanner(composer.registry, composer.pool),
            batch,
            folder,
            lambda row: None,
            lambda n_done: None,
        )
        journals = [
            stack.enter_context(Journal(folder / file, len(batch), {}))
            for file in (ANNOTATIONS, JOURNAL)
            if (folder / file).exists()
        ]
        results = _results(folder / RESULTS)
        return [
            _answered(
                results[batch.query(row).id],
                routes.selection(row),
                [outcome for journal in journals for outcome in journal.outcomes(row)],
            )
            for row in range(len(batch))
        ]


def _results(file: Path) -> dict[str, dict[str, Any]]:
    # Not by `splitlines`: a text may hold other separators than the ends of lines.
    lines = [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
    return {line["id"]: line for line in lines}


def _answered(
    line: Mapping[str, Any], selection: Selection, outcomes: Sequence[Outcome]
) -> Answered:
    took = Took(sum(o.generating_s for o in outcomes if isinstance(o, Completion)))
    if "error" in line:
        said = Said(error=f"{line['error']['kind']}: {line['error']['message']}")
    else:
        # These are all failures; of a prompt that was too long to be sent no outcome is kept.
        failures = [Failed(**failure) for failure in line["failures"]]
        said = Said(line["answer"], line["expert"], line["finish_reason"], failures)
    return account(line["id"], selection, outcomes, said, took)
