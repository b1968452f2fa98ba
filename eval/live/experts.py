"""Every expert asked every question: the table that all else of a run is judged on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from composer.orchestrator import Composer
from composer.outcomes import OutcomeTable, save_table
from composer.profile import Progress, profile
from eval.live.known import SaidAlone
from eval.live.questions import Questions
from eval.live.recorded import join
from eval.live.scoring import Scoring, rescored

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Alone:
    """What came of asking every expert."""

    table: OutcomeTable
    said: SaidAlone
    failed: Mapping[str, str]
    """Why the first request failed, by expert, where one did."""


async def ask_experts(
    questions: Questions,
    composer: Composer,
    folder: Path,
    *,
    experts: Sequence[str],
    recorded: OutcomeTable | None,
    scoring: Scoring,
    on_progress: OnProgress,
) -> Alone:
    """Ask the experts all questions, each engine loaded once, and save the table in the folder.

    Called again it asks only what is missing or failed. Where an expert failed all is unknown.

    Args:
        questions: Train cases are asked as well, unless outcomes of others are recorded.
        composer: Whose experts, and whose pool.
        folder: Keeps the outcomes as they come, and the table.
        experts: Whom to ask: the columns.
        recorded: Train rows of these experts; None: those of the questions.
        scoring: Scores what tasks score themselves.
        on_progress: Called as it goes on.

    Returns:
        Train rows, then test rows in the order of the questions; what was said; and what failed.

    Raises:
        ConfigError: See `composer.profile.profile` and `save_table`.
    """
    asked = questions.test if recorded is not None else (*questions.train, *questions.test)

    def show(progress: Progress) -> None:
        on_progress(f"experts: {progress.expert}", progress.done, progress.total)

    found = await profile(
        [question.case for question in asked],
        composer.registry,
        composer.pool,
        folder,
        experts=experts,
        on_progress=show,
    )
    table = await rescored(
        found.table, asked, scoring, lambda done, n: on_progress("scoring", done, n)
    )
    if recorded is not None:
        table = join(recorded, table)
    table = replace(table, name=questions.name)
    save_table(table, folder)
    failed = {failure.expert: failure.message for failure in reversed(found.failures)}
    return Alone(table, SaidAlone(composer.registry, found.told), failed)


def silent_experts(table: OutcomeTable) -> list[str]:
    """Experts that answered nothing of a table."""
    known = (~np.isnan(table.score)).sum(axis=0)
    return [name for column, name in enumerate(table.names) if not known[column]]
