from __future__ import annotations

import pytest

from composer.answers import extract_answer
from composer.errors import ConfigError
from composer.types import Sample
from eval.tasks.code_execution import Limits
from eval.tasks.humaneval import Problem, humaneval, make_program
from eval.tasks.parts import find_parts
from tests.eval.tasks.conftest import Publishing

PROMPT = '''\
from math import floor


def half(x: float) -> float:
    return x / 2


def double(x: float) -> int:
    """Twice x, rounded down.
    >>> double(1.5)
    3
    """
'''
TEST = """\
METADATA = {}


def check(candidate):
    assert candidate(1.5) == 3
    assert candidate(half(4.0)) == 4
"""
ROW = {
    "task_id": "HumanEval/0",
    "prompt": PROMPT,
    "entry_point": "double",
    "canonical_solution": "    return floor(2 * x)\n",
    "test": TEST,
}
PROBLEM = Problem(PROMPT, "double", TEST)


def passes(text: str, *, answer: str | None = None, problem: Problem = PROBLEM) -> bool:
    """Whether the program of a reply runs to its end in this process."""
    program = make_program(problem, Sample(text, "stop", 9, answer=answer))
    try:
        exec(compile(program, "program.py", "exec"), {})
    except (AssertionError, NameError, SyntaxError):
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "Here it is:\n```python\ndef double(x):\n    return floor(2 * x)\n```\nI hope it helps.",
        "```\nimport math\n\ndef double(x: float) -> int:\n    return math.floor(2 * x)\n```",
        "```\ndef two(x):\n    return 2 * x\n\ndef double(x):\n    return floor(two(x))\n```",
        "```python\n    return floor(2 * x)\n```",
        "```python\nreturn floor(2 * x)\n```",
        "```python\ny = 2 * x\nif y:\n    y = floor(y)\nreturn y\n```",
        "    return floor(2 * x)",
        "\n    y = 2 * x\n\n    return floor(y)\n\nprint(double(3))\ndef broken(:\n",
        "    return floor(2 * x)\n```\nThat is it.",
        "<think>```\ndef double(x): return 0\n```</think>\n    return floor(2 * x)",
    ],
)
def test_functions_and_bodies_are_taken_from_a_reply(text: str):
    assert passes(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "    return x",
        "```python\ndef double(x):\n    return x\n```",
        "```python\ndef double(x):\n    return floor(2 * x)\n```\n```python\nprint(double(3)\n```",
        "def double(x):\n    return floor(2 * x)",
    ],
)
def test_what_is_wrong_or_no_code_in_a_block_does_not_pass(text: str):
    assert not passes(text)


def test_an_answer_that_came_with_the_sample_is_the_code():
    assert passes("```\nreturn 0\n```", answer="def double(x):\n    return floor(2 * x)")


def test_the_function_takes_the_place_of_a_prompt_without_a_docstring():
    problem = Problem(
        "from math import floor\n\ndef double(x):\n", "double", TEST.replace("half(4.0)", "2")
    )

    assert passes("```\ndef double(x):\n    return floor(2 * x)\n```", problem=problem)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_problems_are_read_and_their_reference_passes(publishing: Publishing, form: str):
    write = {
        "jsonl": publishing.lines,
        "jsonl.gz": publishing.packed,
        "parquet": publishing.parquet,
    }[form]

    task = humaneval(find_parts(write(f"HumanEval.{form}", [ROW])))

    (case,) = task.cases
    assert (case.id, case.category, case.split) == ("HumanEval/0", "humaneval", "test")
    assert case.answer_type == "code"
    assert passes("", answer=case.reference)
    assert extract_answer(case.prompt, "code") == PROMPT.rstrip()


def test_a_reply_is_scored_by_running_it(publishing: Publishing):
    parts = find_parts(publishing.lines("HumanEval.jsonl", [ROW]))
    task = humaneval(parts, Limits(wall_s=600))
    (case,) = task.cases

    assert task.scorer(case, Sample("    return floor(2 * x)", "stop", 9)) == 1
    assert task.scorer(case, Sample("    return x", "stop", 9)) == 0


def test_a_problem_without_a_function_s_name_is_refused(publishing: Publishing):
    file = publishing.lines("HumanEval.jsonl", [ROW | {"entry_point": "a b"}])

    with pytest.raises(
        ConfigError, match=r"HumanEval\.jsonl:1: 'entry_point': string should match"
    ):
        humaneval(find_parts(file))
