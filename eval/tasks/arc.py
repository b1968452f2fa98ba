"""ARC: science questions of grade school with options, as released, and as the hub has them.

{"id": "M1", "question": {"stem": "...", "choices": [{"text": "...", "label": "A"}, ...]},
 "answerKey": "B"}
{"id": "M1", "question": "...", "choices": {"text": ["...", ...], "label": ["A", ...]},
 "answerKey": "B"}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from composer.errors import ConfigError
from composer.profile import Case
from eval.datasets.source import Line
from eval.tasks.choices import LETTERS, Options, choice_prompt, right_letter
from eval.tasks.parts import PATTERNS, Hub, Part
from eval.tasks.rows import Asked, collect, read_rows
from eval.tasks.task import Task

NAME = "arc"
ARC_PATTERNS = ("*-{Part}.jsonl", *PATTERNS)
ARC_HUB = Hub(
    "allenai/ai2_arc",
    {
        "train": "ARC-Challenge/train-00000-of-00001.parquet",
        "validation": "ARC-Challenge/validation-00000-of-00001.parquet",
        "test": "ARC-Challenge/test-00000-of-00001.parquet",
    },
)


class _Choice(Line):
    label: str
    text: str


class _Released(Line):
    stem: Asked
    choices: Annotated[tuple[_Choice, ...], Field(min_length=2, max_length=len(LETTERS))]


class _Columns(Line):
    label: Options
    text: Options


def _form(question: object) -> str:
    return "text" if isinstance(question, str) else "released"


class _Row(Line):
    id: str
    question: Annotated[
        Annotated[Asked, Tag("text")] | Annotated[_Released, Tag("released")],
        Discriminator(_form),
    ]
    choices: _Columns | None = None
    answerKey: str


def arc(parts: Sequence[Part]) -> Task:
    """ARC; options are lettered in their order, whatever their labels.

    Source: Think you have Solved Question Answering? (arXiv 1803.05457). Deviations: zero-shot,
    with a wording of ours; one answer is read, where several of equal score get a share of a point.

    Raises:
        ConfigError: A row is wrong.
    """
    return Task(NAME, collect(_cases(parts)))


def _cases(parts: Sequence[Part]) -> Iterator[tuple[str, Case]]:
    for part in parts:
        for at, row in read_rows(part.file, _Row):
            question, labels, texts = _flat(at, row)
            letter = right_letter(at, "answerKey", row.answerKey, labels)
            prompt = choice_prompt(question, texts)
            yield at, Case(row.id, prompt, letter, "choice", NAME, part.split)


def _flat(at: str, row: _Row) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The question, and its options' labels and texts."""
    if isinstance(row.question, _Released):
        choices = row.question.choices
        return row.question.stem, tuple(c.label for c in choices), tuple(c.text for c in choices)
    if row.choices is None:
        raise ConfigError(f"{at}: 'choices' is missing; add it")
    n_labels, n_texts = len(row.choices.label), len(row.choices.text)
    if n_labels != n_texts:
        raise ConfigError(f"{at}: 'choices': {n_labels} labels, {n_texts} texts; mend the row")
    return row.question, row.choices.label, row.choices.text
