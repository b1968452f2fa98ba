"""What interaction layers are trained on: JSON lines of questions and answers.

    {"prompt": "What is 17 + 25?", "answer": "42"}
    {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "answer": "42"}

`reference` may stand for `answer`, and other keys are passed over, so that labelled cases are rows
too. Rows whose `split` is not train are held out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from composer.errors import ConfigError
from composer.types import Message, Role

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Row:
    """One question, and what is right to answer."""

    messages: tuple[Message, ...]
    answer: str
    experts: tuple[str, ...] = ()
    """Those that take part, the one that writes first; empty: whoever is trained to write, and all
    others."""
    split: str = TRAIN
    where: str = "a row"
    """What errors call it."""


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file, in its order; empty lines are passed over.

    Raises:
        ConfigError: The file is missing or empty, or a line is wrong: `path:line: what; remedy`.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}); name a file of rows, JSON lines"
        ) from exc
    rows: list[Row] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            rows.append(_row(json.loads(line), where))
        except (UnicodeDecodeError, json.JSONDecodeError) as exc:
            raise ConfigError(f"{where}: no JSON ({exc}); write one row a line") from exc
        except ConfigError as exc:
            raise ConfigError(f"{where}: {exc}") from None
    if not rows:
        raise ConfigError(f"{path}: no row; write one JSON object a line")
    return tuple(rows)


def rows_digest(rows: Sequence[Row]) -> str:
    """What tells one choice of rows from another, whatever file they came from."""
    plain = [{**asdict(row), "where": None} for row in rows]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:32]


def _row(data: object, where: str) -> Row:
    if not isinstance(data, dict):
        raise ConfigError("no JSON object; write one row a line")
    fields = cast("dict[str, Any]", data)
    answer: object = fields.get("answer", fields.get("reference"))
    if not isinstance(answer, str) or not answer.strip():
        raise ConfigError("'answer' is missing, empty or no text; write what is right to say")
    split: object = fields.get("split", TRAIN)
    if not isinstance(split, str):
        raise ConfigError(f"'split' is {split!r}; write a text")
    return Row(_messages(fields), answer, split=split, where=where)


def _messages(fields: dict[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in fields) == ("messages" in fields):
        raise ConfigError("needs either 'prompt' or 'messages'; give exactly one of them")
    if "prompt" in fields:
        prompt: object = fields["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise ConfigError(f"'prompt' is {prompt!r}; write a text that is not empty")
        return (Message("user", prompt),)
    given: object = fields["messages"]
    if not isinstance(given, list) or not given:
        raise ConfigError("'messages' is no list of messages; write role and content of each")
    messages = tuple(_message(one) for one in cast("list[object]", given))
    if messages[-1].role != "user":
        raise ConfigError(
            f"'messages' ends with one of {messages[-1].role!r}; end with the user's, "
            "and write what follows as 'answer'"
        )
    return messages


def _message(data: object) -> Message:
    if isinstance(data, dict):
        fields = cast("dict[str, Any]", data)
        role, content = fields.get("role"), fields.get("content")
        if role in get_args(Role) and isinstance(content, str):
            return Message(cast("Role", role), content)
    raise ConfigError(
        f"'messages' holds {data!r}; give each a 'role' of {list(get_args(Role))} and a 'content'"
    )
