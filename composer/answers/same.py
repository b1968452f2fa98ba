"""Whether two answers of one type are the same."""

from __future__ import annotations

from fractions import Fraction

from composer.answers.extract import canonical_answer
from composer.types import AnswerType

RELATIVE_TOLERANCE = Fraction(1, 10**6)
"""Of the larger of two numbers; "0.333333" is within it of "1/3"."""


def same_answer(a: str, b: str, answer_type: AnswerType) -> bool:
    """Whether two answers are the same; what is no answer of the type is the same as nothing.

    Answers are the same where their canonical forms are, JSON by value therefore. Two numbers also
    are within `RELATIVE_TOLERANCE` of the larger one, unless both are whole: counts are exact.
    "50%" is 50 and not 0.5 (`composer.answers.number`).

    Numbers are rational, so that exact fractions decide; a computer algebra system would add
    nothing here. Its parser evaluates the text that it is given, and takes time without limit.
    """
    first, second = canonical_answer(a, answer_type), canonical_answer(b, answer_type)
    if first is None or second is None:
        return False
    if first == second or answer_type != "number":
        return first == second
    x, y = Fraction(first), Fraction(second)
    are_whole = x.denominator == y.denominator == 1
    return not are_whole and abs(x - y) <= RELATIVE_TOLERANCE * max(abs(x), abs(y))
