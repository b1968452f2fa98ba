"""HumanEval: Python functions to complete, judged by running their tests."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated

from pydantic import Field

from composer.answers import completion_answer
from composer.answers.reading import without_reasoning
from composer.profile import Case
from composer.types import Sample
from eval.datasets.source import Line
from eval.tasks.code_execution import DEFAULT_LIMITS, Limits, run_code
from eval.tasks.parts import Hub, Part
from eval.tasks.rows import Asked, collect, read_rows
from eval.tasks.task import Scorer, Task

NAME = "humaneval"
HUB = Hub("openai/openai_humaneval", {"test": "openai_humaneval/test-00000-of-00001.parquet"})
CODE = (
    "Complete this Python function.\n\n```python\n{prompt}\n```\n\n"
    "Reply with the whole function and the imports that it needs, in one block fenced by ```."
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be completed, and its test."""

    prompt: str
    """Imports, helpers, and the head of the function with its docstring."""
    entry_point: str
    """The function's name."""
    test: str
    """Defines `check(candidate)`."""


class _Row(Line):
    task_id: str
    prompt: Asked
    entry_point: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    canonical_solution: str
    test: Asked


def humaneval(parts: Sequence[Part], limits: Limits = DEFAULT_LIMITS) -> Task:
    """The task; scoring runs what experts wrote.

    Source: Evaluating Large Language Models Trained on Code (arXiv 2107.03374), openai/human-eval.
    Deviations: a chat wording of ours; one sample, so pass@1.

    Raises:
        ConfigError: A row is wrong.
    """
    rows = [(at, part, row) for part in parts for at, row in read_rows(part.file, _Row)]
    cases = collect(_cases(rows))
    problems = {_asked(row): Problem(row.prompt, row.entry_point, row.test) for _, _, row in rows}
    return Task(NAME, cases, code_scorer(problems, limits))


def code_scorer(problems: Mapping[str, Problem], limits: Limits = DEFAULT_LIMITS) -> Scorer:
    """1 where the program of a sample passes, else 0.

    Args:
        problems: By their cases' prompts, as ids may be changed where tasks are put together.
        limits: Of each program.
    """

    def score(case: Case, sample: Sample) -> float:
        return float(run_code(make_program(problems[case.prompt], sample), limits).passed)

    return score


def make_program(problem: Problem, sample: Sample) -> str:
    """What a sample wrote, followed by the problem's test.

    The last fenced block counts: as the function where it defines it, which then takes the place
    of the prompt's, else as its body. Without a block the text is the body, up to its first line
    that is not indented.

    Source: openai/human-eval, execution.py (prompt, completion, test, check). Deviations: fenced
    functions, which chat models write; a body is cut here, where the original has the engine stop.
    """
    code = completion_answer(sample, "code")
    head = re.compile(rf"^(?:async )?def {problem.entry_point}\b", re.MULTILINE)
    if code is None:
        lines = without_reasoning(sample.text).split("\n")
        body = "\n".join(takewhile(lambda line: not line.strip() or line[0].isspace(), lines))
        solution = problem.prompt + body
    elif head.search(code):
        stub = head.search(problem.prompt)
        before = problem.prompt[: stub.start()] if stub else problem.prompt
        solution = f"{before}\n{code}"
    else:
        solution = problem.prompt + (code if code[0].isspace() else textwrap.indent(code, "    "))
    return f"{solution}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"


def _cases(rows: Sequence[tuple[str, Part, _Row]]) -> Iterator[tuple[str, Case]]:
    for at, part, row in rows:
        reference = row.prompt + row.canonical_solution
        yield at, Case(row.task_id, _asked(row), reference, "code", NAME, part.split)


def _asked(row: _Row) -> str:
    return CODE.format(prompt=row.prompt.strip("\n"))
