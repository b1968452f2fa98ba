"""A trace from JSON lines, one request each, with errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.simulate.trace import Trace

LARGEST = 2**31 - 1
COUNTS = ("stage", "prompt_tokens", "completion_tokens")
KEYS = ("query", "expert", *COUNTS)


def read_trace(path: Path, *, prompt_tokens: int = 200, completion_tokens: int = 100) -> Trace:
    """Read requests in the order of their lines; experts are numbered by name.

    A line has `query` and `expert`, and may have `stage` (else 0; gaps are closed), `prompt_tokens`
    and `completion_tokens` (else what is given here).

    Raises:
        ConfigError: The file cannot be read, holds no request, or a line is wrong.
    """
    defaults = (0, prompt_tokens, completion_tokens)
    queries: dict[str, int] = {}
    asked: list[str] = []
    columns: tuple[list[int], ...] = ([], [], [], [])
    stages: dict[int, int] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                entry = _parse(line, where)
                query = queries.setdefault(_name(entry, "query", where), len(queries))
                counts = [_count(entry, k, d, where) for k, d in zip(COUNTS, defaults, strict=True)]
                if counts[0] < stages.get(query, 0):
                    raise ConfigError(
                        f"{where}: query {entry['query']!r} was at stage {stages[query]} before; "
                        "put a query's stages in order"
                    )
                stages[query] = counts[0]
                asked.append(_name(entry, "expert", where))
                for column, value in zip(columns, (query, *counts), strict=True):
                    column.append(value)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {str(path)!r}: {exc}; name a file of JSON lines") from exc
    if not asked:
        raise ConfigError(f"{path}: an empty trace; give it a line for each request")
    experts = tuple(sorted(set(asked)))
    number_of = {name: number for number, name in enumerate(experts)}
    query, stage, prompts, texts = (np.array(column, np.int64) for column in columns)
    stage = np.unique(stage, return_inverse=True)[1].astype(np.int64)
    expert = np.array([number_of[name] for name in asked], np.int64)
    return Trace(experts, query, expert, stage, prompts, texts)


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        entry: object = json.loads(line)
    except ValueError as exc:
        raise ConfigError(f"{where}: not JSON ({exc}); write one object a line") from exc
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: not an object; write {{'query': ..., 'expert': ...}}")
    entry = cast("dict[str, Any]", entry)
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{where}: {unknown_name('key', key, KEYS)}")
    return entry


def _name(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key!r} is {value!r}; give it a name")
    return value


def _count(entry: dict[str, Any], key: str, default: int, where: str) -> int:
    value = entry.get(key, default)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ConfigError(
            f"{where}: {key!r} is {value!r}; give it a whole number from 0 to {LARGEST}"
        )
    return value
