"""Roman numerals."""

from __future__ import annotations

from random import Random

from eval.starter.skill import Content, Skill

VALUES = (
    (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
LARGEST = 599


def roman(n: int) -> str:
    """A number from 1 to 599 in Roman numerals."""
    text = ""
    for value, letters in VALUES:
        while n >= value:
            text, n = text + letters, n - value
    return text


def _make(rng: Random) -> Content:
    n = rng.randint(1, LARGEST)
    return Content({"n": str(n)}, roman(n))


ROMAN = Skill(
    name="roman",
    description="Writes a number in Roman numerals.",
    answer_type="text",
    make=_make,
    words=("roman", "numeral"),
    phrasings={
        "train": (
            "Write {n} in Roman numerals.",
            "Convert {n} to a Roman numeral.",
            "What is {n} as a Roman numeral?",
            "{n} in Roman numerals?",
            "Please give me the Roman numeral for {n}.",
            "Roman numeral of {n}:",
            "Turn the number {n} into Roman numerals.",
            "Which Roman numeral is {n}?",
            "How did the ancient Romans of Caesar's time write {n}?",
            "Write {n} with the letters I, V, X, L, C and D.",
            "{n} with letters as on an old clock face?",
        ),
        "profile": (
            "Could you write {n} in Roman numerals for me?",
            "The number is {n}. Give its Roman numeral.",
            "Express {n} by Roman numerals.",
            "How would {n} be carved into an old Latin stone?",
        ),
        "test": (
            "My number is {n}; I want it in Roman numerals, please.",
            "Tell me the Roman numeral that means {n}.",
            "In Roman numerals, what is {n}?",
            "Show {n} the Roman way.",
            "How would Julius Caesar have written {n}?",
            "Spell {n} with only I, V, X, L, C, D.",
        ),
    },
)
