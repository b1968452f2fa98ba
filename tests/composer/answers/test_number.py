"""Which number a text gives, and what is more than a number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import extract_answer

NUMBERS: list[tuple[str, str | None]] = [
    ("42", "42"),
    ("42.", "42"),
    ("-42", "-42"),
    ("\u221242", "-42"),
    ("+42", "42"),
    ("42.50", "42.5"),
    ("042", "42"),
    (".5", "0.5"),
    ("-0", "0"),
    ("0.0", "0"),
    ("1,234", "1234"),
    ("1,234,567.80", "1234567.8"),
    ("1{,}234", "1234"),
    ("$18", "18"),
    ("-$18", "-18"),
    ("$-18", "-18"),
    ("42%", "42"),
    ("42\\%", "42"),
    ("42 km", "42"),
    ("42km", "42"),
    ("1/2", "0.5"),
    ("3 / 4", "0.75"),
    ("-2/6", "-1/3"),
    ("4/2", "2"),
    ("1e3", "1000"),
    ("1.5e-3", "0.0015"),
    ("6.02E+2", "602"),
    ("The answer is 42.", "42"),
    ("The answer is -5", "-5"),
    ("The answer is: **1,000**", "1000"),
    ("The answer is approximately 3.14", "3.14"),
    ("The answer is x = 7.", "7"),
    ("Answer: $12.50", "12.5"),
    ("**Answer:** 9 apples out of 12", "9"),
    ("final answer is $\\frac{3}{4}$", "0.75"),
    ("The answer is \\(\\dfrac{1}{3}\\)", "1/3"),
    ("The answer would be 8, since 3 + 5 are 8.", "8"),
    ("The answer is 4. No, the answer is 5.", "5"),
    ("It has 12 parts.\n#### 72", "72"),
    ("5 * 3 = 15\n#### 1,500", "1500"),
    ("We take 3 and 4, so \\boxed{12}.", "12"),
    ("\\boxed{x = -3}", "-3"),
    ("\\boxed{5\\text{ cm}}", "5"),
    ("\\boxed{\\frac{2}{3}}", "2/3"),
    ("\\boxed{-\\frac{1}{2}}", "-0.5"),
    ("\\boxed{\\$1,200}", "1200"),
    ("3 + 4 = 7", "7"),
    ("48 / 2 = 24 and 48 + 24 = 72 clips.", "72"),
    ("There are 7 of them.", "7"),
    ("There are 7 of them; yes, 7.0.", "7"),
    ("First 3, then 4.\nIn total she has 7.", "7"),
    ("1. Add them up.\n2. That makes 9.", "9"),
    ("", None),
    ("none", None),
    ("forty-two", None),
    ("between 10 and 20", None),
    ("The answer is 5 or 6", None),
    ("10-20", None),
    ("2024-05-06", None),
    ("10:30", None),
    ("3.14.15", None),
    ("1.234,56", None),
    ("5/6/2024", None),
    ("3 1/2", None),
    ("2\\frac{1}{2}", None),
    ("10^5", None),
    ("3 \u00d7 10^5", None),
    ("\\sqrt{2}", None),
    ("√2", None),
    ("2x", None),
    ("the 3rd", None),
    ("COVID-19", None),
    ("GPT4", None),
    ("1/0", None),
    ("\\boxed{\\frac{\\sqrt{2}}{2}}", None),
    ("\\boxed{x + 1}", None),
    ("She has 3 cats and 4 dogs.", None),
    ("9" * 5000, None),
    ("1.5 million", "1500000"),
    ("The answer is 1.5 million people.", "1500000"),
    ("The answer is 5 Thousand dollars", "5000"),
    ("\\boxed{2 billion}", "2000000000"),
    ("25 percent", "25"),
    ("The answer is 25 percent.", "25"),
    ("0.42%", "0.42"),
    ("\\boxed{50\\%}", "50"),
    ("90\u00b0", "90"),
    ("\\frac12", "0.5"),
    ("\\boxed{\\frac34}", "0.75"),
    ("\\tfrac{5}{4}", "1.25"),
    ("\\frac{-1}{3}", "-1/3"),
    ("-\\frac{1}{3}", "-1/3"),
    ("1\\,000", "1000"),
    ("\\$1{,}234.50", "1234.5"),
    ("She has 160 + 80 + 20 = <<160+80+20=260>>260 sheep.", "260"),
    ("Then 60 * $1.25 = $<<60*1.25=75>>75 on yogurt.", "75"),
    ("The answer is 5!", "5"),
    ("The answer is 12 (twelve).", "12"),
    ("I think 3. Final answer: 4", "4"),
    ("\\boxed{1}, or rather \\boxed{2}", "2"),
    ("#### 3\n#### 4", "4"),
    ("\u22125", "-5"),
    ("5\u20137", None),
    ("$1.5$ million", None),
    ("1.5\\text{ million}", None),
    ("\\boxed{1.5\\text{ million}}", None),
    ("12 dozen", None),
    ("The answer is 3 hundred", None),
    ("The answer is 3 hours and 20 minutes", None),
    ("The answer is 5 feet 3 inches", None),
    ("The answer is $6.02 \\times 10^{23}$", None),
    ("\\boxed{3 \\times 10^5}", None),
    ("The answer is 5\\sqrt{3}", None),
    ("The answer is 2\\pi", None),
    ("The answer is 2**10", None),
    ("2\\frac12", None),
    ("\\frac{1}{0}", None),
    ("1e99", "1" + "0" * 99),
    ("1:2", None),
    ("(1, 2)", None),
    ("12,5", None),
    ("1 000 000", None),
    ("5k", None),
    ("NaN", None),
    ("inf", None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_text_gives_this_number_or_none(text: str, number: str | None) -> None:
    assert extract_answer(text, "number") == number


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_every_way_to_write_a_decimal_gives_the_same_number(value: object) -> None:
    answer = extract_answer(f"{value:f}", "number")

    assert answer is not None
    assert Fraction(answer) == Fraction(f"{value:f}")
    assert extract_answer(f"The answer is {value:,f}.", "number") == answer
    assert extract_answer(f"\\boxed{{{value:f}}}", "number") == answer
    assert extract_answer(f"#### ${value:,f}", "number") == answer


@given(st.fractions())
def test_a_fraction_keeps_its_value(value: Fraction) -> None:
    written = f"{value.numerator}/{value.denominator}"

    assert Fraction(extract_answer(written, "number") or "nan") == value
