"""What holds for every type: reasoning is left out, no text is too odd, and none takes long."""

from __future__ import annotations

from time import process_time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import canonical_answer, completion_answer, extract_answer, same_answer
from composer.types import AnswerType, Sample

TYPES: tuple[AnswerType, ...] = get_args(AnswerType)
PIECES = [
    "answer is", "Answer:", "the correct option is", "(C)", "C.", "A", "I", "(i)", "B) Paris", "or",
    "and", ",", "wait", "no", "yes", "\\boxed{", "}", "\\frac{1}{2}", "1,234", "-5", "1/3", "%",
    "million", "####", "=", "3 hours", "```", "```json\n", "~~~", "\n", "\r\n", "  ", '{"a": 1.0}',
    "[1]", "<think>", "</think>", "the", "\u201c", "\u2212", "**", "x = 1",
]  # fmt: skip
TEXTS = (
    st.text()
    | st.lists(st.sampled_from(PIECES)).map("".join)
    | st.lists(st.sampled_from(PIECES)).map(" ".join)
)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<think>The answer is (A).</think>The answer is (B).", "B"),
        ("<think>\nThe answer is (A).\n</think>\n\nB", "B"),
        ("The answer is (A).</think>The answer is (B).", "B"),
        ("<think>One</think>The answer is (B).<think>The answer is (A).</think>", "B"),
        ("The answer is (B).<think>Or is it? The answer is (A).", "B"),
        ("<think>The answer is (A).", None),
        ("<think>The answer is (A).</think>", None),
        ("The answer is (A).</think>", None),
    ],
)
def test_no_answer_is_read_in_reasoning(text: str, letter: str | None) -> None:
    assert extract_answer(text, "choice") == letter


@pytest.mark.parametrize(
    ("answer_type", "said", "answer"),
    [
        ("number", "The answer is 2.", "2"),
        ("yes_no", "No.", "no"),
        ("text", "Paris", "paris"),
        ("json", "[2]", "[2]"),
        ("code", "```\ny\n```", "y"),
    ],
)
def test_every_type_leaves_reasoning_out(answer_type: AnswerType, said: str, answer: str) -> None:
    reasoning = "<think>#### 1\nThe answer is yes. Rome?\n```\n[1]\n```\n</think>\n"

    assert extract_answer(reasoning + said, answer_type) == answer


@given(st.sampled_from(TYPES), TEXTS)
def test_an_answer_in_canonical_form_stays_as_it_is(answer_type: AnswerType, text: str) -> None:
    answer = extract_answer(text, answer_type)

    if answer is not None:
        assert canonical_answer(answer, answer_type) == answer
        assert same_answer(answer, answer, answer_type)


def test_the_recorded_answer_goes_before_the_text() -> None:
    sample = Sample("The answer is B.", "stop", 5, answer="(C)")

    assert completion_answer(sample, "choice") == "C"


def test_a_recorded_answer_of_another_type_is_none_at_all() -> None:
    sample = Sample("The answer is B.", "stop", 5, answer="none of them")

    assert completion_answer(sample, "choice") is None


def test_recorded_code_needs_no_fence() -> None:
    sample = Sample("```\ny\n```", "stop", 5, answer="x = 1\n")

    assert completion_answer(sample, "code") == "x = 1"


def test_without_a_recorded_answer_the_text_is_read() -> None:
    assert completion_answer(Sample("#### 1,000", "stop", 5), "number") == "1000"


@pytest.mark.parametrize(
    "unit",
    [
        *("(A) ", "1", "1,", "$\\boxed{", "answer is ", "answer: A", "<", "= 1 ", "no ", " ", "*"),
        *("\n", "\t\n", "[", "`", "```\n", "~", '{"a":', "<<", "<think>", "</think>", "(", "\\"),
        *("The answer is (A). ", "answer is (a) ", "wait ", "A. ", "is: ", "\\frac", "1 million "),
    ],
)
@pytest.mark.parametrize("answer_type", TYPES)
def test_a_long_repetitive_text_takes_no_quadratic_time(answer_type: AnswerType, unit: str) -> None:
    text = "answer is" + unit * (30_000 // len(unit))
    start_s = process_time()

    extract_answer(text, answer_type)

    # A tenth of it where time is linear, and several times it where it is not.
    assert process_time() - start_s < 3
