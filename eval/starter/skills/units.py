"""Metric units converted to smaller ones."""

from __future__ import annotations

from random import Random

from eval.starter.skill import Content, Skill

PAIRS = (
    ("km", "m", 1000),
    ("m", "cm", 100),
    ("cm", "mm", 10),
    ("m", "mm", 1000),
    ("kg", "g", 1000),
    ("t", "kg", 1000),
    ("g", "mg", 1000),
    ("l", "ml", 1000),
    ("l", "cl", 100),
)


def _make(rng: Random) -> Content:
    big, small, factor = rng.choice(PAIRS)
    n = rng.randint(2, 999)
    return Content({"n": str(n), "from": big, "to": small}, f"{n * factor} {small}")


UNITS = Skill(
    name="units",
    description="Converts metric lengths, masses and volumes to a smaller unit.",
    answer_type="text",
    make=_make,
    words=("convert", "conver", "unit"),
    phrasings={
        "train": (
            "Convert {n} {from} to {to}.",
            "Convert {n} {from} into {to}.",
            "What do you get when you convert {n} {from} to {to}?",
            "Unit conversion: {n} {from} to {to}",
            "Please convert {n} {from} to the unit {to}.",
            "Change the unit: {n} {from} = ? {to}",
            "I need {n} {from} converted to {to}.",
            "Express {n} {from} in the unit {to}.",
            "{n} {from} in {to}?",
            "How many {to} are {n} {from}?",
            "Write {n} {from} in {to}.",
        ),
        "profile": (
            "Could you convert {n} {from} to {to} for me?",
            "The unit is {from}, the value {n}. Give it in {to}.",
            "Do a conversion from {from} to {to}: {n}",
            "How much is {n} {from}, said in {to}?",
        ),
        "test": (
            "My value is {n} {from}; convert it into {to}, please.",
            "What is {n} {from} when the unit is {to}?",
            "Converted to {to}, how much is {n} {from}?",
            "Switch the units of {n} {from} to {to}.",
            "Tell me what {n} {from} is in {to}.",
            "{n} {from} is how many {to}?",
        ),
    },
)
