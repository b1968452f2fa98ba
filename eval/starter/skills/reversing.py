"""Lists of numbers read backwards."""

from __future__ import annotations

from random import Random

from eval.starter.skill import Content, Skill


def _make(rng: Random) -> Content:
    numbers = rng.sample(range(1, 100), rng.randint(4, 5))
    backwards = reversed(numbers)
    return Content({"list": ", ".join(map(str, numbers))}, ", ".join(map(str, backwards)))


REVERSING = Skill(
    name="reversing",
    description="Writes a list of numbers backwards, the last one first.",
    answer_type="text",
    make=_make,
    words=("revers", "backward"),
    phrasings={
        "train": (
            "Reverse these numbers: {list}",
            "Write these numbers backwards: {list}",
            "{list}. Reverse them.",
            "Please reverse the order of the following numbers: {list}",
            "I have the numbers {list}. Read them backwards.",
            "What is {list} in reverse order?",
            "Reverse the list {list}.",
            "Put these numbers in reverse order: {list}",
            "List these from the last one to the first one: {list}",
            "{list} - write the last one first and the first one last.",
            "Here are some numbers: {list}. Begin at the end and go to the front.",
        ),
        "profile": (
            "Could you reverse {list} for me?",
            "Bring {list} into reverse order.",
            "Write the numbers {list} in the backward direction.",
            "Write {list} again, but from the end to the start.",
        ),
        "test": (
            "These numbers are to be reversed: {list}. Do that, please.",
            "Give me {list} backwards.",
            "How does the list {list} look once it is reversed?",
            "Turn {list} around, in reverse.",
            "Say the values {list}: last first.",
            "Go from the final number to the first: {list}",
        ),
    },
)
