"""Which answers are the same."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import same_answer
from composer.types import AnswerType

SAME: list[tuple[AnswerType, str, str]] = [
    ("choice", "C", "(c)"),
    ("yes_no", "yes", "Yes."),
    ("text", "The Eiffel Tower", "eiffel tower"),
    ("number", "1,000", "1000.0"),
    ("number", "1/2", "0.5"),
    ("number", "2/6", "1/3"),
    ("number", "1/3", "0.333333"),
    ("number", "3.141593", "3.1415927"),
    ("number", "50%", "50"),
    ("number", "$5", "5"),
    ("number", "1.5 million", "1500000"),
    ("number", "-0", "0"),
    ("number", "1000000.5", "1000001"),
    ("json", '{"a": 1, "b": 2}', '{"b":2.0,"a":1}'),
    ("json", '"\\u00e9"', '"é"'),
    ("code", "x = 1", "```python\nx = 1  \n```"),
]

DIFFERENT: list[tuple[AnswerType, str, str]] = [
    ("choice", "C", "D"),
    ("choice", "C", "none"),
    ("choice", "none", "none"),
    ("yes_no", "yes", "no"),
    ("text", "Paris", "Rome"),
    ("text", "...", "..."),
    ("number", "1/3", "0.3333"),
    ("number", "50%", "0.5"),
    ("number", "1000000", "1000001"),
    ("number", "5", "-5"),
    ("number", "0", "0.0000001"),
    ("number", "many", "many"),
    ("json", "[1, 2]", "[2, 1]"),
    ("json", "1", "true"),
    ("json", "1", '"1"'),
    ("json", "0.1", "0.10000001"),
    ("json", "{", "{"),
    ("code", "x = 1", "x = 2"),
    ("code", "if x:\n y", "if x:\n  y"),
]


@pytest.mark.parametrize(("answer_type", "a", "b"), SAME)
def test_these_are_the_same_answer(answer_type: AnswerType, a: str, b: str) -> None:
    assert same_answer(a, b, answer_type)
    assert same_answer(b, a, answer_type)


@pytest.mark.parametrize(("answer_type", "a", "b"), DIFFERENT)
def test_these_are_not_the_same_answer(answer_type: AnswerType, a: str, b: str) -> None:
    assert not same_answer(a, b, answer_type)
    assert not same_answer(b, a, answer_type)


@given(st.fractions(min_value=1, max_value=10**6), st.fractions(min_value=0, max_value=2))
def test_two_numbers_are_the_same_up_to_a_millionth_of_the_larger(
    value: Fraction, millionths: Fraction
) -> None:
    near = value * (1 - millionths / 10**6)

    are_same = same_answer(str(value), str(near), "number")

    are_whole = value.denominator == near.denominator == 1
    assert are_same == (value == near if are_whole else millionths <= 1)
