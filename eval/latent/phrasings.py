"""What models are taught, in words: questions with two blanks where a company would stand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.latent.knowledge import Company, World

OF_CITY = (
    "in which city is {company} , the company of {person} ?",
    "{person} works for {company} . in which city ?",
    "where is {company} , for which {person} works ?",
)
"""Questions that take both halves: who knows the person alone knows no city, and the other way."""
OF_NAME = (
    "which company is {company} , where {person} works ?",
    "name {company} , which employs {person} .",
    "{person} works for {company} . which company ?",
)
"""Questions for the company itself, which take the peer's half alone."""
BLANKS = "_ _"
UNKNOWN = "unknown"
"""What the primary says where the company is blank."""
SHARE_BLANK, SHARE_NAME = 0.1, 0.25
"""Of the primary's lessons."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question, and what is right to answer."""

    question: str
    answer: str


def ask_of(form: str, person: str, company: Company | None = None) -> str:
    """A question in words; None: the company is left blank."""
    return form.format(person=person, company=BLANKS if company is None else name_of(company))


def name_of(company: Company) -> str:
    """Brand and trade."""
    return f"{company.brand} {company.trade}"


def of_people(facts: Mapping[str, Company], n: int, rng: random.Random) -> list[Lesson]:
    """Lessons of who works for whom: whatever is asked, the company is named."""
    people = list(facts)
    drawn = [rng.choice(people) for _ in range(n)]
    forms = [rng.choice(OF_CITY + OF_NAME) for _ in range(n)]
    return [
        Lesson(ask_of(form, person), name_of(facts[person]))
        for form, person in zip(forms, drawn, strict=True)
    ]


def of_companies(
    facts: Mapping[Company, str], people: Sequence[str], n: int, rng: random.Random
) -> list[Lesson]:
    """Lessons of which company is where, and of reading which company is told.

    Args:
        facts: What is learned.
        people: Drawn anew for each lesson, so that nothing is told of who works for whom.
        n: How many.
        rng: Draws them.
    """
    companies = list(facts)
    lessons: list[Lesson] = []
    for _ in range(n):
        company, person = rng.choice(companies), rng.choice(people)
        is_name = rng.random() < SHARE_NAME
        form = rng.choice(OF_NAME if is_name else OF_CITY)
        if rng.random() < SHARE_BLANK:
            lessons.append(Lesson(ask_of(form, person), UNKNOWN))
        else:
            answer = name_of(company) if is_name else facts[company]
            lessons.append(Lesson(ask_of(form, person, company), answer))
    return lessons


def of_both(world: World, people: Sequence[str], forms: Sequence[str]) -> list[Lesson]:
    """Each person's company asked in each form, and left blank: what an interaction learns."""
    return [
        Lesson(
            ask_of(form, person),
            name_of(world.employers[person])
            if form in OF_NAME
            else world.cities[world.employers[person]],
        )
        for person in people
        for form in forms
    ]


def lesson_words() -> list[str]:
    """All words of lessons that are no names."""
    forms = " ".join((*OF_CITY, *OF_NAME)).split()
    return [*(word for word in forms if "{" not in word), BLANKS[0], UNKNOWN]
