"""Questions with options: how they are put, and which letter is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from composer.errors import ConfigError

LETTERS = "ABCDEFGHIJ"
"""As many as are read from answers (`composer.answers.choice`)."""
Options = Annotated[tuple[str, ...], Field(min_length=2, max_length=len(LETTERS))]
CHOICE = (
    'You may reason first. Finish with "The answer is (X).", where X is the letter of the right '
    "option."
)


def choice_prompt(question: str, options: Sequence[str]) -> str:
    """The question, a line for each option behind its letter, and the form of the answer."""
    listed = "\n".join(
        f"{letter}. {option.strip()}" for letter, option in zip(LETTERS, options, strict=False)
    )
    return f"{question.strip()}\n\n{listed}\n\n{CHOICE}"


def right_letter(at: str, field: str, answer: str, labels: Sequence[str]) -> str:
    """The letter of the option that has a label.

    Args:
        at: The row's place.
        field: Where the answer stands in it.
        answer: The label of the right option.
        labels: Those of all options, in their order.

    Raises:
        ConfigError: No option has it.
    """
    if answer not in labels:
        raise ConfigError(f"{at}: {field!r}: {answer!r} is none of {list(labels)}; mend the row")
    return LETTERS[labels.index(answer)]
