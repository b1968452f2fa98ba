"""Compositions asked the test questions of a run: what each did, scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from composer.bulk.window import Known
from composer.composed import Composed
from composer.orchestrator import Composer
from composer.types import Query
from eval.live.bulk import answer_in_bulk
from eval.live.compositions import with_compositions
from eval.live.experts import OnProgress
from eval.live.folder import Options
from eval.live.online import answer_online
from eval.live.questions import Question
from eval.live.records import Record, make_record
from eval.live.scoring import Scoring
from eval.live.timing import Timing


@dataclass(frozen=True, slots=True)
class Entry:
    """A composition, and what it did."""

    method: str
    """Its name in the rows."""
    composed: Composed
    records: tuple[Record, ...]
    """In the order of the questions."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """To be told beside those of the composition."""

    @property
    def unanswered(self) -> tuple[Record, ...]:
        """Of the queries without an answer."""
        return tuple(record for record in self.records if record.answered.answer is None)

    @property
    def samples(self) -> float:
        """Answers that experts gave of their own, a query in the mean."""
        return float(np.mean([record.answered.samples for record in self.records]))


@dataclass(frozen=True, slots=True)
class Asking:
    """How the compositions of a run are asked."""

    composer: Composer
    """Its pool runs all."""
    questions: Sequence[Question]
    folder: Path
    """Keeps a folder for each composition."""
    options: Options
    known: Known
    """What needs not be asked in bulk."""
    scoring: Scoring
    timing: Timing
    on_progress: OnProgress

    async def ask(
        self, method: str, composed: Composed, settings: Mapping[str, Any] | None = None
    ) -> Entry:
        """Have a composition answer the questions, and score what it says.

        Raises:
            ConfigError: The composition cannot work, or the folder cannot be used.
            RoutingError: It cannot score the questions at all.
        """
        composer, name = with_compositions(self.composer, [composed]), composed.name
        queries = [self._query(question) for question in self.questions]
        folder = self.folder / name

        def show(done: int) -> None:
            self.on_progress(name, done, len(queries))

        with self.timing.step(name):
            if self.options.online:
                answered = await answer_online(composer, name, queries, folder, show)
            else:
                answered = await answer_in_bulk(composer, name, queries, folder, self.known, show)
            records = [
                await make_record(question, method, each, self.scoring)
                for question, each in zip(self.questions, answered, strict=True)
            ]
        return Entry(method, composed, tuple(records), settings or {})

    def _query(self, question: Question) -> Query:
        query = question.case.to_query()
        return query if self.options.known_category else replace(query, category=None)


def most_samples(entries: Sequence[Entry]) -> int:
    """The most that any composition was given for a query; 0 without compositions."""
    return max((r.answered.samples for entry in entries for r in entry.records), default=0)
