"""What is read from experts' texts, and what is left alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import completion_answer, extract_answer
from composer.types import AnswerType, Sample

CHOICES: list[tuple[str, str | None]] = [
    ("The answer is (C).", "C"),
    ("The answer is C.", "C"),
    ("the answer is C", "C"),
    ("The correct answer is **B) Paris**.", "B"),
    ("The correct answer is: D", "D"),
    ("The best option is (E), as shown.", "E"),
    ("The right choice is option F.", "F"),
    ("Answer: C", "C"),
    ("answer: (c)", "C"),
    ("Answer: b", "B"),
    ("**Answer:** G", "G"),
    ("Answer:\nH", "H"),
    ("Answer: A", "A"),
    ("Answer: A. Paris", "A"),
    ("The answer is A because the others are wrong.", "A"),
    ("The answer is I, of course.", "I"),
    ("The answer is $\\boxed{D}$.", "D"),
    ("The answer is \\(J\\).", "J"),
    ("Answer: C Paris", "C"),
    ("Answer: A (the first one)", "A"),
    ("The answer is B, I think.", "B"),
    ("The answer is A. Wait, no: the answer is B.", "B"),
    ("It looks like (A), but the answer is (D).", "D"),
    ("So \\boxed{C}", "C"),
    ("So \\boxed{\\text{B}} it is", "B"),
    ("We get $\\boxed{(E)}$", "E"),
    ("First \\boxed{A}, then rather \\boxed{B}", "B"),
    ("C", "C"),
    ("c", "C"),
    ("A", "A"),
    ("I", "I"),
    ("(C)", "C"),
    ("**C**", "C"),
    ("C.", "C"),
    (" D) ", "D"),
    ("Option C", "C"),
    ("B\n\nThe capital of France is Paris.", "B"),
    ("We go through it.\nIt cannot be the first.\n\nD", "D"),
    ("C) Paris", "C"),
    ("C. Paris", "C"),
    ("(B) London is the largest.", "B"),
    ("E: the last one", "E"),
    ("**A.** Paris", "A"),
    ("All in all this leaves only (C).", "C"),
    ("Only one is left: (F)", "F"),
    ("A man walks into a bar.", None),
    ("I think it is hard to say.", None),
    ("I. Think", "I"),
    ("A: Paris", None),
    ("Answer: I think that it depends.", None),
    ("Answer: A man walks.", None),
    ("Answer: I'd rather not.", None),
    ("The answer is a mess.", None),
    ("The answer is a", None),
    ("The answer is A or B.", None),
    ("The answer is (A) or (B)", None),
    ("The answer is B, C and D.", None),
    ("The answer is either A or B.", None),
    ("The answer is not A.", None),
    ("The answer is Berlin.", None),
    ("Answer: B12", None),
    ("Answer: C++", None),
    ("Answer: C-sections are safe", None),
    ("The answer is K.", None),
    ("Option C cannot be true.", None),
    ("A. Paris\nB. London\nC. Rome", None),
    ("(A) Paris (B) London", None),
    ("It is (A), not (B)", None),
    ("J. R. Smith wrote it.", None),
    ("Carbon is C and boron is B in chemistry", None),
    ("DNA", None),
    ("", None),
    (" \n ", None),
    ("I do not know.", None),
    ("\\boxed{42}", None),
]

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
]

YES_NO: list[tuple[str, str | None]] = [
    ("yes", "yes"),
    ("No", "no"),
    ("Yes.", "yes"),
    ("YES!", "yes"),
    ("**No**", "no"),
    ("Yes, it is.", "yes"),
    ("Yes it is", "yes"),
    ("No, it is not.", "no"),
    ("No it isn't", "no"),
    ("No\nBecause it is late.", "no"),
    ("The answer is yes.", "yes"),
    ("The answer is: **no**", "no"),
    ("Answer: Yes", "yes"),
    ("Yes, at first. But the answer is no.", "no"),
    ("The answer is yes. Hm. The answer is no.", "no"),
    ("\\boxed{\\text{yes}}", "yes"),
    ("Let me think.\nIt is so.\nYes.", "yes"),
    ("", None),
    ("No one knows.", None),
    ("No. 5 is the best.", None),
    ("No-one knows.", None),
    ("None", None),
    ("Yesterday it rained.", None),
    ("Yes and no.", None),
    ("Yes or no?", None),
    ("Yes/no", None),
    ("The answer is no longer known.", None),
    ("I know.", None),
    ("maybe", None),
]

TEXTS: list[tuple[str, str | None]] = [
    ("Paris", "paris"),
    (" The  Eiffel\nTower. ", "eiffel tower"),
    ("**Paris**", "paris"),
    ("“Paris”", "paris"),
    ("an apple", "apple"),
    ("Vitamin A", "vitamin a"),
    ("U.S.", "u.s"),
    ("C++", "c++"),
    ("-5", "-5"),
    ("3.5", "3.5"),
    ("STRASSE", "strasse"),
    ("Straße", "strasse"),
    ("Cafe\u0301", "caf\u00e9"),
    ("(Paris)", "paris"),
    ("", None),
    ("...", None),
    (" \n", None),
]

CASES: list[tuple[AnswerType, str, str | None]] = [
    *(("choice", text, answer) for text, answer in CHOICES),
    *(("number", text, answer) for text, answer in NUMBERS),
    *(("yes_no", text, answer) for text, answer in YES_NO),
    *(("text", text, answer) for text, answer in TEXTS),
]


@pytest.mark.parametrize(("answer_type", "text", "answer"), CASES)
def test_a_text_gives_this_answer_or_none(
    answer_type: AnswerType, text: str, answer: str | None
) -> None:
    assert extract_answer(text, answer_type) == answer


@given(
    st.sampled_from(["choice", "number", "yes_no", "text"]),
    st.one_of(st.text(), st.sampled_from([text for _, text, _ in CASES])),
)
def test_a_canonical_answer_is_read_as_itself(answer_type: AnswerType, text: str) -> None:
    answer = extract_answer(text, answer_type)

    assert answer is None or extract_answer(answer, answer_type) == answer


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_every_way_to_write_a_decimal_gives_the_same_number(value: object) -> None:
    answer = extract_answer(f"{value:f}", "number")

    assert answer is not None
    assert Fraction(answer) == Fraction(f"{value:f}")
    assert extract_answer(f"The answer is {value:,f}.", "number") == answer


@given(st.fractions())
def test_a_fraction_keeps_its_value(value: Fraction) -> None:
    written = f"{value.numerator}/{value.denominator}"

    assert Fraction(extract_answer(written, "number") or "nan") == value


@given(st.text(alphabet=st.characters(exclude_characters="ABCDEFGHIJabcdefghij")))
def test_no_letter_of_a_choice_no_choice(text: str) -> None:
    assert extract_answer(text, "choice") is None


@given(
    st.sampled_from(["A", "I"]),
    st.lists(st.sampled_from(["dog", "went", "out,", "fine.", "\n", "maybe"]), min_size=1),
)
def test_a_word_before_prose_is_never_a_choice(word: str, prose: list[str]) -> None:
    if prose[0] != "\n":
        assert extract_answer(" ".join([word, *prose]), "choice") is None


def test_the_recorded_answer_goes_before_the_text() -> None:
    sample = Sample("The answer is B.", "stop", 5, answer="(C)")

    assert completion_answer(sample, "choice") == "C"


def test_a_recorded_answer_of_another_type_is_none_at_all() -> None:
    sample = Sample("The answer is B.", "stop", 5, answer="none of them")

    assert completion_answer(sample, "choice") is None


def test_without_a_recorded_answer_the_text_is_read() -> None:
    assert completion_answer(Sample("#### 1,000", "stop", 5), "number") == "1000"


@pytest.mark.parametrize(
    "unit",
    ["(A) ", "1", "1,", "$\\boxed{", "answer is ", "answer: A", "<", "= 1 ", "no ", " ", "*"],
)
@pytest.mark.parametrize("answer_type", ["choice", "number", "yes_no", "text"])
def test_a_long_repetitive_text_is_read_in_time(answer_type: AnswerType, unit: str) -> None:
    extract_answer("answer is" + unit * (20_000 // len(unit)), answer_type)
