"""The lines of a batch file: OpenAI's batch form, and a plain one.

    {"custom_id": "q1", "url": "/v1/chat/completions", "body": {"messages": [...], ...}, ...}
    {"id": "q1", "prompt": "Why?"}      or "messages"; "category", "answer_type" and "sampling" may
                                        be given, the last as of an expert: {"max_tokens": 32}

A batch keeps where each line begins and nothing of what it says, so it may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, get_args

from composer.appending import unwritable, write_whole
from composer.entry_checks import parse_entry
from composer.errors import ConfigError
from composer.experts import SamplingDefaults
from composer.queries import Prompt, make_query
from composer.types import AnswerType, Query, Sampling

PROMPTS = "queries.jsonl"
URL = "/v1/chat/completions"
SAMPLING = frozenset(
    {"temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens"}
)
"""What of an OpenAI body says how the answer is drawn."""
FORWARDED = SAMPLING | {"messages", "model"}
"""What of it is not ignored: the composition answers whatever model is named."""


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line that can be answered."""

    query: Query
    is_openai: bool
    """Whether it is in OpenAI's form; its answer will be, too."""
    ignored: tuple[str, ...] = ()
    """Settings of its body that ask for something and are not taken over."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One line that cannot be answered, and why."""

    number: int
    """From 1."""
    reason: str


class Batch:
    """The queries of a batch file, read again when they are needed; `with` it."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file is read by `with`."""
        self.path = path
        self.rejects: tuple[Reject, ...] = ()
        self.ignored: Mapping[str, int] = {}
        """Settings that are not taken over, and how many lines have each."""
        self.digest = ""
        """The SHA-256 of the file."""
        self._begins = array("q")
        self._lengths = array("q")
        self._file = -1
        self._latest: tuple[int, BatchLine] | None = None

    def __enter__(self) -> Self:
        """Look through the file once.

        Raises:
            ConfigError: It cannot be read, or has no line that can be answered.
        """
        try:
            self._look_through()
            self._file = os.open(self.path, os.O_RDONLY)
        except OSError as exc:
            raise ConfigError(
                f"{self.path}: cannot be read ({exc.strerror}); name a file of JSON lines"
            ) from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._begins)

    def line(self, row: int) -> BatchLine:
        """The line of a row, from 0; rejected ones are not counted."""
        # Whoever looks at a row looks at it more than once before the next.
        if self._latest is None or self._latest[0] != row:
            data = os.pread(self._file, self._lengths[row], self._begins[row])
            self._latest = row, read_line(data)
        return self._latest[1]

    def query(self, row: int) -> Query:
        """The query of a row."""
        return self.line(row).query

    def _look_through(self) -> None:
        digest = hashlib.sha256()
        seen: set[str] = set()
        rejects: list[Reject] = []
        ignored: dict[str, int] = {}
        begin = 0
        with open(self.path, "rb") as file:
            for number, data in enumerate(file, start=1):
                digest.update(data)
                if data.strip():
                    try:
                        line = read_line(data)
                        if line.query.id in seen:
                            raise ValueError(f"the id {line.query.id!r} is used before")
                    except ValueError as exc:
                        rejects.append(Reject(number, str(exc)))
                    else:
                        seen.add(line.query.id)
                        for setting in line.ignored:
                            ignored[setting] = ignored.get(setting, 0) + 1
                        self._begins.append(begin)
                        self._lengths.append(len(data))
                begin += len(data)
        self.rejects, self.ignored, self.digest = tuple(rejects), ignored, digest.hexdigest()
        if not self._begins:
            first = f": line {rejects[0].number}: {rejects[0].reason}" if rejects else ""
            raise ConfigError(
                f"{self.path}: has no query that can be answered{first}; "
                'write lines like {"id": "q1", "prompt": "Why?"}'
            )


def keep_prompts(prompts: Iterable[Prompt], folder: Path) -> Path:
    """Write prompts to a file in a folder, as a batch; their places, from 0, are their ids.

    Raises:
        ConfigError: A prompt is empty or no chat, or asks for n texts, or the folder holds other
            prompts.
    """
    lines: list[str] = []
    for number, prompt in enumerate(prompts):
        query = make_query(prompt, query_id=str(number))
        sampling = {key: said for key, said in asdict(query.sampling).items() if said is not None}
        if "n" in sampling:
            raise ConfigError(f"query {query.id!r} asks for n texts, and a batch answers with one")
        line: dict[str, Any] = {"id": query.id, "messages": [asdict(m) for m in query.messages]}
        for key, value in (
            ("category", query.category),
            ("answer_type", query.answer_type),
            ("sampling", sampling or None),
        ):
            if value is not None:
                line[key] = value
        lines.append(json.dumps(line) + "\n")
    path, text = folder / PROMPTS, "".join(lines)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unwritable(folder, exc) from exc
    if path.exists() and path.read_text("utf-8") != text:
        raise ConfigError(f"{path}: holds other prompts; name another folder")
    write_whole(path, text)
    return path


def read_line(data: bytes) -> BatchLine:
    """One line of a batch file.

    Raises:
        ValueError: It cannot be answered; the message says why.
    """
    try:
        line = json.loads(data)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON at character {exc.pos + 1}") from None
    if not isinstance(line, dict):
        raise ValueError("is no JSON object")
    values = cast("dict[str, Any]", line)
    try:
        return _read_openai(values) if "custom_id" in values else _read_plain(values)
    except ConfigError as exc:
        raise ValueError(str(exc)) from None


def _read_openai(line: Mapping[str, Any]) -> BatchLine:
    body: Any = line.get("body")
    if line.get("url", URL) != URL or line.get("method", "POST") != "POST":
        raise ValueError(f"only POST {URL} can be answered")
    if not isinstance(body, dict):
        raise ValueError("has no 'body'")
    settings = cast("dict[str, Any]", body)
    query_id = _query_id(line["custom_id"], "custom_id")
    query = make_query(_messages(settings.get("messages")), query_id=query_id)
    asking = {key for key, value in settings.items() if value and (key, value) != ("n", 1)}
    return BatchLine(
        replace(query, sampling=_sampling(settings)), True, tuple(sorted(asking - FORWARDED))
    )


def _sampling(body: Mapping[str, Any]) -> Sampling:
    """How the answer is drawn, as far as a body says: null is nothing, as if it were not there."""
    said = {key: body[key] for key in sorted(SAMPLING) if body.get(key) is not None}
    if "max_completion_tokens" in said:
        said["max_tokens"] = said.pop("max_completion_tokens")
    if isinstance(said.get("stop"), str):
        said["stop"] = [said["stop"]]
    found = parse_entry(SamplingDefaults, said)
    if isinstance(found, list):
        raise ValueError(found[0][1])
    return found.to_sampling()


def _read_plain(line: Mapping[str, Any]) -> BatchLine:
    if "id" not in line:
        raise ValueError("has neither 'id' nor 'custom_id'")
    if ("prompt" in line) == ("messages" in line):
        raise ValueError("needs either 'prompt' or 'messages'")
    prompt: Any = line.get("prompt")
    if "messages" in line:
        prompt = _messages(line["messages"])
    elif not isinstance(prompt, str):
        raise ValueError("'prompt' is no text")
    category, answer_type = line.get("category"), line.get("answer_type")
    if category is not None and not isinstance(category, str):
        raise ValueError("'category' is no text")
    if answer_type is not None and answer_type not in get_args(AnswerType):
        known = ", ".join(get_args(AnswerType))
        raise ValueError(f"'answer_type' is {answer_type!r}; choose from {known}")
    query_id = _query_id(line["id"], "id")
    query = make_query(prompt, answer_type, query_id=query_id, category=category)
    return BatchLine(replace(query, sampling=_own_sampling(line.get("sampling"))), False)


def _own_sampling(value: object) -> Sampling:
    if value is None:
        return Sampling()
    if not isinstance(value, dict):
        raise ValueError("'sampling' is no JSON object")
    said = cast("dict[str, Any]", value)
    if unknown := sorted(set(said) - SAMPLING):
        raise ValueError(f"'sampling' has {unknown[0]!r}; choose from {sorted(SAMPLING)}")
    return _sampling(said)


def _query_id(value: object, key: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key!r} is no text")
    return value


def _messages(value: Any) -> Sequence[Mapping[str, str]]:
    if not isinstance(value, list) or not all(
        isinstance(message, dict) for message in cast("list[Any]", value)
    ):
        raise ValueError("'messages' is no list of chat messages")
    return cast("list[dict[str, str]]", value)
