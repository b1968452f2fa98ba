"""Dates in words converted to ISO 8601."""

from __future__ import annotations

from random import Random

from eval.starter.skill import Content, Skill

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _make(rng: Random) -> Content:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1900, 2099)
    return Content({"date": f"{day} {MONTHS[month - 1]} {year}"}, f"{year}-{month:02d}-{day:02d}")


DATES = Skill(
    name="dates",
    description="Converts a date in words to the ISO form YYYY-MM-DD.",
    answer_type="text",
    make=_make,
    words=("date", "iso", "yyyy"),
    phrasings={
        "train": (
            "Convert {date} to ISO format.",
            "Convert the date {date} into YYYY-MM-DD.",
            "What do you get when you convert {date} to an ISO date?",
            "Date conversion: {date} to YYYY-MM-DD",
            "Please convert {date} to the ISO form.",
            "Change the date format: {date} = ?",
            "I need {date} converted to an ISO date.",
            "Express {date} as YYYY-MM-DD.",
            "{date} in numbers, the year first?",
            "How is {date} written with numbers and hyphens?",
            "Write {date} with the year, then the month, then the day, as numbers.",
        ),
        "profile": (
            "Could you convert {date} to ISO 8601 for me?",
            "The date is {date}. Give it as YYYY-MM-DD.",
            "Do a conversion of the date {date} to ISO.",
            "How is {date} said in numbers, from year to day?",
        ),
        "test": (
            "My date is {date}; convert it into the ISO form, please.",
            "What is {date} when it is written as YYYY-MM-DD?",
            "Converted to ISO, what is {date}?",
            "Switch the format of the date {date} to ISO 8601.",
            "Tell me what {date} is as year-month-day in digits.",
            "{date} is which number with hyphens, beginning with the year?",
        ),
    },
)
