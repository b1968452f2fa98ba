"""The files of a source, record by record, each with the place where it stands."""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from composer.errors import ConfigError
from composer.outcomes.lines import describe

if TYPE_CHECKING:
    from rich.progress import Progress

PICKLES = (".pkl", ".pickle")
PACKED = (".gz", ".tgz", ".zip")
MEND = "mend the record, or name the format that it has"


class Line(BaseModel):
    """One record's object; keys that a format does not name are passed over."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


LineT = TypeVar("LineT", bound=Line)
DocumentT = TypeVar("DocumentT")


class Source:
    """A file or a folder that is imported; knows which of its files were read.

    Raises:
        ConfigError: There is no such file, it is a pickle, or it is packed.
    """

    def __init__(self, root: Path, progress: Progress | None = None) -> None:
        if not root.exists():
            raise ConfigError(f"no file or folder {str(root)!r}; name what is to be imported")
        if root.is_file():
            _refuse(root)
        self.root = root
        self._read: dict[Path, None] = {}
        self._progress = progress
        self._task = progress.add_task("reading", total=0) if progress is not None else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were read, in the order in which they were."""
        return tuple(self._read)

    def find(self, *patterns: str) -> list[Path]:
        """The files of the first pattern that any file of the folder has, sorted by path.

        A source that is a file is its own and only one.

        Raises:
            ConfigError: No file has any of the patterns.
        """
        if self.root.is_file():
            found = [self.root]
        else:
            matches = (self.besides(pattern) for pattern in patterns)
            found = next((files for files in matches if files), None)
        if found is None:
            for pickle in sorted(file for kind in PICKLES for file in self.root.rglob(f"*{kind}")):
                _refuse(pickle)
            raise ConfigError(f"{self.root}: no file {' or '.join(patterns)}; name their folder")
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=sum(file.stat().st_size for file in found))
        return found

    def besides(self, pattern: str) -> list[Path]:
        """The files of a pattern anywhere in the folder, sorted; none if the source is a file."""
        if self.root.is_file():
            return []
        return sorted(file for file in self.root.rglob(pattern) if file.is_file())

    def objects(self, file: Path, line: type[LineT]) -> Iterator[tuple[str, LineT]]:
        """The objects of a JSON list or of JSON lines: `path:line` or `path: record n`, object.

        Raises:
            ConfigError: The file is empty, or a record is wrong.
        """
        n_records = 0
        with self._open(file, newline="\n") as text:
            for at, record in _json_records(file, text):
                n_records += 1
                yield at, _checked(at, line, record)
        if not n_records:
            raise ConfigError(f"{file}: no record; is it the right file, and whole?")

    def document(self, file: Path, kind: TypeAdapter[DocumentT]) -> DocumentT:
        """The one value that a JSON file holds.

        Raises:
            ConfigError: It holds something else.
        """
        with self._open(file, newline="\n") as text:
            value = _parsed(str(file), text.read())
        try:
            return kind.validate_python(value)
        except ValidationError as exc:
            raise ConfigError(f"{file}: {describe(exc)}; {MEND}") from exc

    def rows(
        self, file: Path, required: Sequence[str] = ()
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """The rows of a CSV file: `path:line` where the row begins, and its fields by column.

        Raises:
            ConfigError: A required column is missing, there is no row, or one is malformed.
        """
        csv.field_size_limit(sys.maxsize)
        with self._open(file, newline="") as text:
            reader = csv.reader(text, strict=True)
            header: list[str] | None = None
            n_rows = 0
            while True:
                at = f"{file}:{reader.line_num + 1}"
                try:
                    row = next(reader, None)
                except csv.Error as exc:
                    raise ConfigError(f"{at}: {exc}; mend the quotes, or export it anew") from exc
                if row is None:
                    break
                if header is None:
                    header = _checked_header(at, row, required)
                elif row:
                    n_rows += 1
                    if len(row) != len(header):
                        raise ConfigError(
                            f"{at}: {len(row)} fields where the header has {len(header)}; "
                            "mend the row"
                        )
                    yield at, dict(zip(header, row, strict=True))
        if not n_rows:
            raise ConfigError(f"{file}: no row; is it the right file, and whole?")

    @contextmanager
    def _open(self, file: Path, *, newline: str) -> Generator[io.TextIOWrapper]:
        self._read[file] = None
        try:
            with file.open("rb") as raw:
                counted: Any = raw
                if self._progress is not None and self._task is not None:
                    counted = self._progress.wrap_file(raw, task_id=self._task)
                yield io.TextIOWrapper(counted, encoding="utf-8-sig", newline=newline)
        except UnicodeDecodeError as exc:
            raise ConfigError(f"{file}: not UTF-8 ({exc}); convert it") from exc
        except OSError as exc:
            raise ConfigError(f"{file}: cannot be read ({exc}); is it a file?") from exc


def _refuse(file: Path) -> None:
    if file.suffix in PICKLES:
        export = f"pandas.read_pickle({file.name!r}).to_csv({file.stem + '.csv'!r}, index=False)"
        raise ConfigError(
            f"{file}: a pickle can run any program when it is opened, so none is read here; "
            f"where you trust it, export it to CSV: import pandas; {export}"
        )
    if file.suffix in PACKED:
        raise ConfigError(f"{file}: packed; unpack it, and name what comes out")


def _json_records(file: Path, text: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    lines = enumerate(text, start=1)
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if first.lstrip().startswith("["):
        # Empty lines before the list keep the parser's line numbers right.
        records = _parsed(str(file), "\n" * (number - 1) + first + text.read())
        for number, record in enumerate(records, start=1):
            yield f"{file}: record {number}", record
        return
    for place, line in itertools.chain([(number, first)], lines):
        if line.strip():
            yield f"{file}:{place}", _parsed(f"{file}:{place}", line)


def _parsed(at: str, text: str) -> Any:
    try:
        return from_json(text)
    except ValueError as exc:
        raise ConfigError(f"{at}: not JSON: {exc}; is the file whole?") from exc


def _checked(at: str, line: type[LineT], record: Any) -> LineT:
    try:
        return line.model_validate(record)
    except ValidationError as exc:
        raise ConfigError(f"{at}: {describe(exc)}; {MEND}") from exc


def _checked_header(at: str, header: list[str], required: Sequence[str]) -> list[str]:
    for column in required:
        if column not in header:
            raise ConfigError(f"{at}: no column {column!r} among {header}; {MEND}")
    for column in header:
        if header.count(column) > 1:
            raise ConfigError(f"{at}: two columns {column!r}; take one out")
    return header
