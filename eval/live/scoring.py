"""Scores of answers: by type at once, by a task's own scorer once for each text and then kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from composer.appending import TakenUp
from composer.errors import ConfigError
from composer.fingerprint import digest
from composer.outcomes import OutcomeTable
from composer.types import Sample
from eval.live.questions import Question
from eval.tasks.task import typed_score

FILE = "scores.jsonl"


class Scoring(TakenUp):
    """Scores answers; `with` it, alone: its file is locked while it is open.

    A task's own scorer may take long, as code does that is run. What it said of a text is a line of
    the file, and the same text of another expert, or after an interruption, is not scored again.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder of the run; nothing is read or written before `with`."""
        super().__init__(folder / FILE)
        self._known: dict[str, float] = {}

    async def score(self, question: Question, sample: Sample) -> float:
        """How good an answer is, in [0, 1]."""
        case = question.case
        if question.scorer is typed_score:
            return typed_score(case, sample)
        key = digest([case.id, case.reference, sample.text])
        if key not in self._known:
            self._known[key] = await asyncio.to_thread(question.scorer, case, sample)
            line = {"id": case.id, "key": key, "score": self._known[key]}
            self._lines.append(json.dumps(line).encode())
        return self._known[key]

    def _take_up(self) -> None:
        for number, (_, line) in enumerate(self._lines.take_up(), start=1):
            self._take_in(number, line)

    def _take_in(self, number: int, line: bytes) -> None:
        try:
            told = json.loads(line)
            self._known[told["key"]] = float(told["score"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"{self._lines.path}:{number}: is no line of scores; remove it, or name another "
                "folder"
            ) from exc


async def rescored(
    table: OutcomeTable,
    questions: Sequence[Question],
    scoring: Scoring,
    on_text: Callable[[int, int], None],
) -> OutcomeTable:
    """The table with the scores of tasks' own scorers in the place of typed ones.

    Args:
        table: With the texts of all questions; what is unknown stays so.
        questions: In the order of the rows.
        scoring: Scores.
        on_text: Called with how many texts are scored, of how many, after each.
    """
    own = [row for row, question in enumerate(questions) if question.scorer is not typed_score]
    if not own:
        return table
    assert table.texts is not None, "a profile keeps texts"
    cells = [(row, column) for row in own for column in range(len(table.names))]
    score = table.score.copy()
    for done, cell in enumerate(cells, start=1):
        text = table.texts[cell]
        if text is not None:
            # A table does not say why the text ended: a task's own scorer goes by the text.
            score[cell] = await scoring.score(questions[cell[0]], Sample(text, "stop", 0))
        on_text(done, len(cells))
    return replace(table, score=score)
