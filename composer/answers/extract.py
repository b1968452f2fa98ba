"""A text -> its typed answer in canonical form, by a table of types."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from composer.answers.choice import read_choice
from composer.answers.fenced import canonical_code, read_code, read_json
from composer.answers.number import read_number
from composer.answers.reading import without_reasoning
from composer.answers.words import read_text, read_yes_no
from composer.types import AnswerType, Sample


def extract_answer(text: str, answer_type: AnswerType) -> str | None:
    """The typed answer that a text gives, in canonical form; None: none was found.

    What stands between <think> and </think> is not read. What is known to be an answer goes through
    `canonical_answer` instead.
    """
    return _READERS[answer_type](without_reasoning(text))


def canonical_answer(answer: str, answer_type: AnswerType) -> str | None:
    """A known answer, such as a reference, in canonical form; None: it is none of the type.

    It is read as a text is, but holds no reasoning, and may be code without a fence. What is in
    canonical form stays as it is.
    """
    return canonical_code(answer) if answer_type == "code" else _READERS[answer_type](answer)


def completion_answer(sample: Sample, answer_type: AnswerType) -> str | None:
    """The typed answer of a sample in canonical form; None: none was found.

    An answer that came with the sample decides; its text is not read then.
    """
    if sample.answer is not None:
        return canonical_answer(sample.answer, answer_type)
    return extract_answer(sample.text, answer_type)


_READERS: Mapping[AnswerType, Callable[[str], str | None]] = {
    "choice": read_choice,
    "number": read_number,
    "yes_no": read_yes_no,
    "text": read_text,
    "json": read_json,
    "code": read_code,
}
