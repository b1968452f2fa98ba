"""Labelled cases, JSON lines that people write: a prompt, and what is right to answer.

    {"id": "sum-1", "prompt": "What is 17 + 25?", "reference": "42", "answer_type": "number",
     "category": "arithmetic", "split": "train"}

`category` may be null, and `split`, which is `train`, may be missing; so may `max_tokens`, of an
answer at most. A key that is none of these is an error: it is a slip more often than not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from composer.answers import canonical_answer
from composer.errors import ConfigError
from composer.suggest import suggest
from composer.types import AnswerType, Message, Query, Sampling

Name = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]


@dataclass(frozen=True, slots=True)
class Case:
    """One question whose answer is known."""

    id: str
    prompt: str
    reference: str
    """Some right answer of the type; what is the same in canonical form is right as well."""
    answer_type: AnswerType
    category: str | None = None
    split: str = "train"
    max_tokens: int | None = None
    """Of an answer at most; None: as each expert's settings say."""

    def to_query(self) -> Query:
        """What a user would have asked."""
        return Query(
            self.id,
            (Message("user", self.prompt),),
            self.category,
            self.answer_type,
            Sampling(max_tokens=self.max_tokens),
        )


@with_config(ConfigDict(extra="forbid"))
class _Line(TypedDict):
    id: Name
    prompt: Annotated[str, Field(pattern=r"\S")]
    reference: Name
    answer_type: AnswerType
    category: Name | None
    split: NotRequired[Name]
    max_tokens: NotRequired[Annotated[int, Field(ge=1)] | None]


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a file, in its order.

    Args:
        path: JSON lines in UTF-8, as the module says; empty lines are passed over.

    Raises:
        ConfigError: The file is missing or empty, or a line is wrong:
            `path:line: 'field': message; remedy`.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}); name a file of cases, JSON lines"
        ) from exc
    adapter = TypeAdapter[Any](_Line)
    cases: dict[str, Case] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            case = Case(**adapter.validate_json(line))
            _check(case, cases)
        except ValidationError as exc:
            raise ConfigError(f"{path}:{number}: {_describe(exc.errors()[0])}") from exc
        except ConfigError as exc:
            raise ConfigError(f"{path}:{number}: {exc}") from exc
        cases[case.id] = case
    if not cases:
        raise ConfigError(f"{path}: no case; write one JSON object a line")
    return tuple(cases.values())


def _check(case: Case, before: dict[str, Case]) -> None:
    if case.id in before:
        raise ConfigError(f"'id': {case.id!r} stands there twice; rename one")
    if canonical_answer(case.reference, case.answer_type) is None:
        raise ConfigError(
            f"'reference': {case.reference!r} is no answer of type {case.answer_type!r}; mend it, "
            "or the type"
        )


def _describe(error: ErrorDetails) -> str:
    """What is wrong with a line, remedy last."""
    if not error["loc"]:
        said = error["msg"][:1].lower() + error["msg"][1:]
        return f"no JSON object ({said}); write one case a line"
    field = str(error["loc"][0])
    match error["type"]:
        case "missing":
            return f"{field!r} is missing; add it"
        case "extra_forbidden":
            return f"unknown key {field!r}; {suggest(field, _Line.__annotations__)}"
        case "literal_error":
            said = suggest(str(error["input"]), get_args(AnswerType))
            return f"'answer_type': no type {error['input']!r}; {said}"
        case _ if field == "max_tokens":
            return f"{field!r} is {error['input']!r}; write a whole number, 1 or more"
        case _:
            return f"{field!r} is {error['input']!r}; write a text that is not empty"
