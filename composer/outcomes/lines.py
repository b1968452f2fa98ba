"""Gzipped JSON lines, each checked: what recorded data is read from."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from composer.errors import ConfigError

QUERIES = "queries.jsonl.gz"
MODELS = "models.json"
OUTCOMES = "outcomes.jsonl.gz"
PARTIAL = "outcomes_partial.jsonl.gz"
RESPONSES = "responses.jsonl.gz"

BUFFER_BYTES = 1 << 20

Text = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A line's text; a number stands for its digits, as ids and answers often are numbers."""

LineT = TypeVar("LineT", bound=Mapping[str, object])


def raise_problem(problem: str) -> None:
    """What is done about a problem unless a caller collects them."""
    raise ConfigError(problem)


def read_lines(
    file: Path,
    line: type[LineT],
    *,
    naming: re.Pattern[bytes] | None = None,
    on_problem: Callable[[str], None] = raise_problem,
) -> Iterator[tuple[int, LineT]]:
    """The lines of a file, with their numbers from 1; empty ones are passed over.

    Args:
        file: Gzipped JSON lines, one object each.
        line: The TypedDict that an object must be; other keys than its own are dropped. (Reading
            dicts takes two thirds of the time of reading models.)
        naming: What a line must contain to be read; None: every line is.
        on_problem: Called with `path:line: 'field': message; remedy` for each line that is wrong,
            which is then passed over; the default raises.

    Raises:
        ConfigError: The file is missing or cannot be unpacked; and what `on_problem` raises.
    """
    # The adapter's own method costs a fifth of the time, for options that are not used here.
    check: Callable[[bytes], LineT] = TypeAdapter(line).validator.validate_json
    number = 0
    try:
        # Lines come several times faster from a buffer than from the unpacked file itself.
        with gzip.open(file, "rb") as unpacked, BufferedReader(unpacked, BUFFER_BYTES) as raw:
            for text in raw:
                number += 1
                if text.isspace() or (naming is not None and not naming.search(text)):
                    continue
                try:
                    checked = check(text)
                except ValidationError as exc:
                    on_problem(f"{file}:{number}: {describe(exc)}; mend the line")
                else:
                    yield number, checked
    except FileNotFoundError as exc:
        raise ConfigError(f"no file {str(file)!r}; recorded data needs it") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise ConfigError(f"{file}: cannot be read ({exc}); is it whole, and gzip?") from exc


def describe(error: ValidationError) -> str:
    """The first thing that is wrong: `'field': message`."""
    first = error.errors(include_url=False)[0]
    field = "".join(f"{step!r}: " for step in first["loc"])
    return f"{field}{first['msg'][:1].lower()}{first['msg'][1:]}"
