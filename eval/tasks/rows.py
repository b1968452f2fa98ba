"""The rows of a benchmark's files, each checked, with the place where it stands."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar, cast

from pydantic import Field, ValidationError
from pydantic_core import from_json

from composer.errors import ConfigError
from composer.outcomes.lines import describe
from composer.profile import Case
from eval.datasets.source import Line

Asked = Annotated[str, Field(pattern=r"\S")]
"""The text of a question."""
LineT = TypeVar("LineT", bound=Line)
WHOLE = "is it the right file, and whole?"


def read_rows(file: Path, kind: type[LineT]) -> Iterator[tuple[str, LineT]]:
    """The rows of JSON lines (`path:line`, row) or of a Parquet file (`path: row n`, row).

    Args:
        file: Its name says what it is, by a suffix of `READERS`.
        kind: What each row must be; columns that it does not name are passed over.

    Raises:
        ConfigError: It cannot be read, has no row, or one is wrong, which is named with its field.
    """
    reader = next((read for suffix, read in READERS.items() if file.name.endswith(suffix)), None)
    if reader is None:
        raise ConfigError(f"{file}: its name ends in none of {list(READERS)}; convert it")
    return _checked(file, reader(file), kind)


def read_csv(file: Path, kind: type[LineT], columns: Sequence[str]) -> Iterator[tuple[str, LineT]]:
    """The rows of a CSV file without a header: `path:line` where it begins, row.

    Raises:
        ConfigError: See `read_rows`.
    """
    return _checked(file, _csv(file, columns), kind)


def collect(cases: Iterable[tuple[str, Case]]) -> tuple[Case, ...]:
    """The cases, whose ids are different.

    Args:
        cases: Each behind its place.

    Raises:
        ConfigError: Two have one id.
    """
    found: dict[str, Case] = {}
    for at, case in cases:
        if case.id in found:
            raise ConfigError(f"{at}: the id {case.id!r} stands there twice; take one row out")
        found[case.id] = case
    return tuple(found.values())


def _checked(
    file: Path, records: Iterator[tuple[str, Any]], kind: type[LineT]
) -> Iterator[tuple[str, LineT]]:
    n_rows = 0
    try:
        for at, record in records:
            n_rows += 1
            try:
                row = kind.model_validate(record)
            except ValidationError as exc:
                raise ConfigError(f"{at}: {describe(exc)}; mend the row") from exc
            yield at, row
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: not UTF-8 ({exc}); convert it") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise ConfigError(f"{file}: cannot be read ({exc}); {WHOLE}") from exc
    if not n_rows:
        raise ConfigError(f"{file}: no row; {WHOLE}")


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="\n") as text:
        yield from _parsed(file, text)


def _packed_lines(file: Path) -> Iterator[tuple[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8-sig", newline="\n") as text:
        yield from _parsed(file, text)


def _parsed(file: Path, text: TextIO) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", from_json(line)
        except ValueError as exc:
            raise ConfigError(f"{file}:{number}: not JSON: {exc}; {WHOLE}") from exc


def _csv(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        while True:
            at = f"{file}:{reader.line_num + 1}"
            try:
                row = next(reader, None)
            except csv.Error as exc:
                raise ConfigError(f"{at}: {exc}; mend the quotes") from exc
            if row is None:
                return
            if row and len(row) != len(columns):
                raise ConfigError(
                    f"{at}: {len(row)} fields where {list(columns)} are wanted; mend the row"
                )
            if row:
                yield at, dict(zip(columns, row, strict=True))


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    # By name: it takes half a second, and has no types that a checker could read.
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    number = 0
    try:
        with closing(pq.ParquetFile(file)) as opened:
            for batch in opened.iter_batches():
                for record in cast("list[Any]", batch.to_pylist()):
                    number += 1
                    yield f"{file}: row {number}", record
    except pa.ArrowException as exc:
        reason = str(exc).splitlines()[0]
        raise ConfigError(f"{file}: cannot be read ({reason}); {WHOLE}") from exc


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _lines,
    ".jsonl.gz": _packed_lines,
    ".parquet": _parquet,
}
