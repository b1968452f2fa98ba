"""Numbers put in ascending order."""

from __future__ import annotations

from random import Random

from eval.starter.skill import Content, Skill


def _make(rng: Random) -> Content:
    numbers = rng.sample(range(1, 100), rng.randint(4, 5))
    return Content({"list": ", ".join(map(str, numbers))}, ", ".join(map(str, sorted(numbers))))


SORTING = Skill(
    name="sorting",
    description="Puts a list of numbers in ascending order.",
    answer_type="text",
    make=_make,
    words=("sort", "order", "ascending", "arrange"),
    phrasings={
        "train": (
            "Sort these numbers: {list}",
            "Put these numbers in ascending order: {list}",
            "{list}. Sort them.",
            "Arrange from the smallest to the largest: {list}",
            "Please order the following numbers from low to high: {list}",
            "I have the numbers {list}. Sort them in ascending order.",
            "What is {list} in ascending order?",
            "Sort the list {list}.",
            "List these from the smallest to the largest: {list}",
            "{list} - write the lowest first and the highest last.",
            "Here are some numbers: {list}. Begin with the smallest, end with the largest.",
        ),
        "profile": (
            "Could you sort {list} for me?",
            "Bring {list} into ascending order.",
            "Arrange the numbers {list} so that they go up.",
            "Write {list} again, but from the lowest to the highest.",
        ),
        "test": (
            "These numbers are unsorted: {list}. Sort them, please.",
            "Give me {list} in increasing order.",
            "How does the list {list} look once it is sorted?",
            "Arrange {list} with the smallest number at the front.",
            "Rank the values {list}: smallest first.",
            "Go from the least to the greatest: {list}",
        ),
    },
)
