"""GSM8K: word problems of grade school mathematics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from composer.answers import canonical_answer
from composer.errors import ConfigError
from composer.profile import Case
from eval.datasets.source import Line
from eval.tasks.parts import Hub, Part
from eval.tasks.rows import Asked, collect, read_rows
from eval.tasks.task import Task

NAME = "gsm8k"
HUB = Hub(
    "openai/gsm8k",
    {
        "train": "main/train-00000-of-00001.parquet",
        "test": "main/test-00000-of-00001.parquet",
    },
)
NUMBER = (
    'You may reason first. Finish with a line "#### N", where N is the answer as a plain number.'
)
MARK = "####"


class _Row(Line):
    question: Asked
    answer: str


def gsm8k(parts: Sequence[Part]) -> Task:
    """The task; a reference is the number behind the mark.

    Source: Training Verifiers to Solve Math Word Problems (arXiv 2110.14168), openai/grade-school-
    math. Deviation: zero-shot, with a wording of ours.

    Raises:
        ConfigError: A row is wrong.
    """
    return Task(NAME, collect(_cases(parts)))


def _cases(parts: Sequence[Part]) -> Iterator[tuple[str, Case]]:
    numbers: Counter[str] = Counter()
    for part in parts:
        for at, row in read_rows(part.file, _Row):
            _, mark, reference = row.answer.rpartition(MARK)
            reference = reference.strip()
            if not mark or canonical_answer(reference, "number") is None:
                raise ConfigError(f"{at}: 'answer': no number behind {MARK!r}; mend the row")
            yield (
                at,
                Case(
                    f"{NAME}-{part.name}-{numbers[part.name]}",
                    f"{row.question.strip()}\n\n{NUMBER}",
                    reference,
                    "number",
                    NAME,
                    part.split,
                ),
            )
            numbers[part.name] += 1
