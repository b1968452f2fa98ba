"""Yes, no, and short texts in normal form."""

from __future__ import annotations

import pytest

from composer.answers import extract_answer

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
    ("\\boxed{no}", "no"),
    ("It was. Answer: no", "no"),
    ("The answer is no because it is late.", "no"),
    ("Final answer:\n\nYes", "yes"),
    ("Yes - it does.", "yes"),
    ("Is it so? Perhaps.\nYes, I think so.", None),
    ("The answer is yes or no.", None),
    ("Not at all.", None),
    ("No 10 is in London", None),
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
    ("the The Hague", "hague"),
    ("A", "a"),
    ("\uff30aris", "paris"),
    ("\u00abParis\u00bb!", "paris"),
    ("New\tYork\r\nCity", "new york city"),
    ("don\u2019t", "don't"),
    ("1,000", "1,000"),
    ("_emphasis_", "emphasis"),
    ("(x) [b]", "x b"),
]


@pytest.mark.parametrize(("text", "answer"), YES_NO)
def test_a_text_says_yes_or_no_or_neither(text: str, answer: str | None) -> None:
    assert extract_answer(text, "yes_no") == answer


@pytest.mark.parametrize(("text", "answer"), TEXTS)
def test_a_short_text_has_this_normal_form(text: str, answer: str | None) -> None:
    assert extract_answer(text, "text") == answer
