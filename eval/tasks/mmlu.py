"""MMLU and MMLU-Pro: questions of many subjects, with options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from composer.profile import Case
from eval.datasets.source import Line
from eval.tasks.choices import LETTERS, Options, choice_prompt, right_letter
from eval.tasks.parts import PATTERNS, Hub, Part
from eval.tasks.rows import Asked, collect, read_csv, read_rows
from eval.tasks.task import Task

MMLU, PRO = "mmlu", "mmlu-pro"
MMLU_PATTERNS = ("{part}/*_{part}.csv", *PATTERNS)
MMLU_HUB = Hub(
    "cais/mmlu",
    {
        "dev": "all/dev-00000-of-00001.parquet",
        "validation": "all/validation-00000-of-00001.parquet",
        "test": "all/test-00000-of-00001.parquet",
    },
)
PRO_HUB = Hub(
    "TIGER-Lab/MMLU-Pro",
    {
        "validation": "data/validation-00000-of-00001.parquet",
        "test": "data/test-00000-of-00001.parquet",
    },
)
COLUMNS = ("question", "A", "B", "C", "D", "answer")


class _Row(Line):
    question: Asked
    subject: Asked
    choices: Options
    answer: int
    """The number of the right choice, from 0."""


class _CsvRow(Line):
    question: Asked
    A: str
    B: str
    C: str
    D: str
    answer: str
    """Its letter."""


class _ProRow(Line):
    question_id: str
    question: Asked
    options: Options
    answer: str
    category: Asked


def mmlu(parts: Sequence[Part]) -> Task:
    """MMLU; the category is the subject, which a CSV file has in its name.

    Source: Measuring Massive Multitask Language Understanding (arXiv 2009.03300),
    hendrycks/test. Deviations: zero-shot, where the paper shows the five questions of `dev`, with
    a wording of ours; those five are in train, with `val`.

    Raises:
        ConfigError: A row is wrong.
    """
    return Task(MMLU, collect(_mmlu_cases(parts)))


def mmlu_pro(parts: Sequence[Part]) -> Task:
    """MMLU-Pro, with up to ten options.

    Source: MMLU-Pro (arXiv 2406.01574), TIGER-AI-Lab/MMLU-Pro. Deviations: zero-shot, where the
    paper shows five worked examples, with a wording of ours; what is no answer counts as wrong,
    where its code draws a letter.

    Raises:
        ConfigError: A row is wrong.
    """
    return Task(PRO, collect(_pro_cases(parts)))


def _mmlu_cases(parts: Sequence[Part]) -> Iterator[tuple[str, Case]]:
    numbers: Counter[str] = Counter()
    for part in parts:
        rows = _from_csv(part) if part.file.suffix == ".csv" else _from_rows(part)
        for at, subject, prompt, reference in rows:
            key = f"{subject}-{part.name}"
            case = Case(f"{key}-{numbers[key]}", prompt, reference, "choice", subject, part.split)
            yield at, case
            numbers[key] += 1


def _from_csv(part: Part) -> Iterator[tuple[str, str, str, str]]:
    subject = part.file.stem.removesuffix(f"_{part.name}")
    for at, row in read_csv(part.file, _CsvRow, COLUMNS):
        letter = right_letter(at, "answer", row.answer, "ABCD")
        yield at, subject, choice_prompt(row.question, (row.A, row.B, row.C, row.D)), letter


def _from_rows(part: Part) -> Iterator[tuple[str, str, str, str]]:
    for at, row in read_rows(part.file, _Row):
        labels = [str(number) for number in range(len(row.choices))]
        letter = right_letter(at, "answer", str(row.answer), labels)
        yield at, row.subject, choice_prompt(row.question, row.choices), letter


def _pro_cases(parts: Sequence[Part]) -> Iterator[tuple[str, Case]]:
    for part in parts:
        for at, row in read_rows(part.file, _ProRow):
            letter = right_letter(at, "answer", row.answer, LETTERS[: len(row.options)])
            case_id = f"{PRO}-{row.question_id}"
            prompt = choice_prompt(row.question, row.options)
            yield at, Case(case_id, prompt, letter, "choice", row.category, part.split)
