"""records.jsonl: a line each query and composition, with all that is known of the two.

    {"id": "q1", "task": "starter", "category": "dates", "prompt": "...", "reference": "...",
     "composition": "panel", "answer": "...", "extracted": "12", "score": 1.0, "expert": "smol",
     "asked": [...], "chosen": [...], "predicted": 0.71, "cost_usd": ..., "seconds": ..., ...}

The keys after `score` are those of `Answered`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from composer.answers import completion_answer
from composer.appending import write_whole
from composer.errors import ConfigError
from composer.types import Sample
from eval.live.answered import Answered
from eval.live.questions import Question
from eval.live.scoring import Scoring

FILE = "records.jsonl"
_ANSWERED = TypeAdapter(Answered)


@dataclass(frozen=True, slots=True)
class Record:
    """What a composition did with a query, and how good it was."""

    task: str
    category: str | None
    prompt: str
    reference: str
    composition: str
    extracted: str | None
    """The typed answer in canonical form; None: the text holds none, or there is no text."""
    score: float
    """In [0, 1]; without an answer 0."""
    answered: Answered


async def make_record(
    question: Question, composition: str, answered: Answered, scoring: Scoring
) -> Record:
    """Score what a composition did with a question."""
    case = question.case
    score, extracted = 0.0, None
    if answered.answer is not None:
        sample = Sample(answered.answer, answered.finish_reason or "", 0)
        score = await scoring.score(question, sample)
        extracted = completion_answer(sample, case.answer_type)
    return Record(
        question.task,
        case.category,
        case.prompt,
        case.reference,
        composition,
        extracted,
        score,
        answered,
    )


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Write the records of a run, over those that were there.

    Raises:
        ConfigError: The disk is full, or cannot be written.
    """
    lines = [json.dumps(_to_line(record), ensure_ascii=False) + "\n" for record in records]
    write_whole(folder / FILE, "".join(lines))


def read_records(folder: Path) -> list[Record]:
    """The records of a run.

    Raises:
        ConfigError: There are none, or a line is broken.
    """
    file = folder / FILE
    if not file.is_file():
        raise ConfigError(f"{str(folder)!r} holds no {FILE}; run its command again")
    records: list[Record] = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if line:
            try:
                records.append(_from_line(json.loads(line)))
            except (KeyError, TypeError, ValueError, ValidationError) as exc:
                raise ConfigError(f"{file}:{number}: is no record; run its command again") from exc
    return records


def of_composition(records: Sequence[Record], composition: str) -> list[Record]:
    """The records of one composition, in their order."""
    return [record for record in records if record.composition == composition]


def _to_line(record: Record) -> dict[str, Any]:
    told = _ANSWERED.dump_python(record.answered, mode="json")
    about = {
        "id": told["id"],
        "task": record.task,
        "category": record.category,
        "prompt": record.prompt,
        "reference": record.reference,
        "composition": record.composition,
        "answer": told["answer"],
        "extracted": record.extracted,
        "score": record.score,
    }
    return about | told


def _from_line(line: dict[str, Any]) -> Record:
    keys = ("task", "category", "prompt", "reference", "composition", "extracted", "score")
    about = {key: line.pop(key) for key in keys}
    return Record(**about, answered=_ANSWERED.validate_python(line, strict=False))
