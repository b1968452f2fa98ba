"""A saved outcome table: a folder of Parquet files, and table.json that says which; never a pickle.

    table.json              what the table holds, and the SHA-256 of each file
    queries-HASH.parquet    a row each query: id, prompt, split, category, reference, flags; from
                            version 2 on its annotation, as JSON, from 3 on its answer_type
    cells-HASH.parquet      a row each cell, query by query, in the order of the experts: score,
                            cost_usd, ...; `answers` holds codes
    answers-HASH.parquet    the answers that the codes number
    texts-HASH.parquet      a row each cell; read only when asked for

The files are named by what is in them, and table.json is replaced last, by a rename. So a save that
is killed leaves the table that was there before, and files that the next save takes away. Savers
and readers lock the folder while they work on it, which the kernel undoes when a process dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from composer.errors import ConfigError
from composer.outcomes.folder import read_folder
from composer.outcomes.lines import QUERIES, describe
from composer.outcomes.parquet import NotParquetError, pack, unpack
from composer.outcomes.table import Answers, OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Annotation

if TYPE_CHECKING:
    from composer.outcomes.parquet import Array

SCHEMA_VERSION = 3
MANIFEST = "table.json"
QUERY_COLUMNS = {
    "id": 1,
    "prompt": 1,
    "split": 1,
    "category": 1,
    "reference": 1,
    "annotation": 2,
    "answer_type": 3,
    "flags": 1,
}
"""What there is of a query, in the order of the columns, and since which version."""

Part = Literal["queries", "cells", "answers", "texts"]
CellColumn = Literal[
    "score", "cost_usd", "latency_s", "prompt_tokens", "completion_tokens", "answers"
]
OURS = re.compile(
    r"(queries|cells|answers|texts)-[0-9a-f]{16}\.parquet"
    r"|\.(table\.json|(queries|cells|answers|texts)-[0-9a-f]{16}\.parquet)\.part"
)
"""Names of files that a save may take away."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Version(BaseModel):
    schema_version: int


class _Manifest(_Version):
    """What table.json holds."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    name: str
    splits: dict[str, int]
    """Rows of each split, for whoever looks in."""
    experts: tuple[RecordedExpert, ...]
    cells: tuple[CellColumn, ...]
    sha256: dict[Part, Digest]


def save_table(table: OutcomeTable, folder: Path) -> None:
    """Save a table; one that was saved there before is replaced, at once or not at all.

    Args:
        table: Its score, amounts and answers keep their dtypes.
        folder: Made if it does not exist.

    Raises:
        ConfigError: The folder cannot be written, or holds the lines of a recorded table.
    """
    if (folder / QUERIES).exists():
        raise ConfigError(f"{folder}: holds {QUERIES}, another table; name another folder")
    parts = _pack(table)
    digests = {part: sha256(data).hexdigest() for part, data in parts.items()}
    files = {_path(folder, part, digests[part]): data for part, data in parts.items()}
    manifest = _Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": table.name,
            "splits": Counter(query.split for query in table.queries),
            "experts": table.experts,
            "cells": [name for name in table.cells() if name != "texts"],
            "sha256": digests,
        }
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, fcntl.LOCK_EX) as descriptor:
            for file, data in files.items():
                _write(file, data)
            os.fsync(descriptor)
            _write(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
            os.fsync(descriptor)
            for file in folder.iterdir():
                if OURS.fullmatch(file.name) and file not in files:
                    file.unlink()
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be written ({exc}); name another folder") from exc


def load_table(folder: Path, *, texts: bool = False) -> OutcomeTable:
    """The table that was saved in a folder, with all of its experts.

    Args:
        folder: See the module.
        texts: Have the full texts as well, if there are any: they are most of the memory.

    Raises:
        ConfigError: Nothing was saved there, a file is missing or not what was saved, or a newer
            version of this library saved it.
    """
    if not (folder / MANIFEST).exists():
        raise ConfigError(f"no saved table in {str(folder)!r}: no {MANIFEST}; save one there")
    try:
        with _locked(folder, fcntl.LOCK_SH):
            manifest = _read_manifest(folder / MANIFEST)
            n, m = sum(manifest.splits.values()), len(manifest.experts)
            columns = _query_columns(manifest.schema_version)
            queries = _read(folder, manifest, "queries", columns, n)
            cells = _read(folder, manifest, "cells", manifest.cells, n * m)
            codes = cells.pop("answers", None)
            answers = None
            if codes is not None:
                values = _read(folder, manifest, "answers", ("value",))["value"]
                answers = Answers(tuple(values), codes.reshape(n, m))
            said = None
            if texts and "texts" in manifest.sha256:
                said = _read(folder, manifest, "texts", ("text",), n * m)["text"].reshape(n, m)
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be read ({exc}); save the table again") from exc
    return OutcomeTable(
        manifest.name,
        _queries(queries),
        manifest.experts,
        answers=answers,
        texts=said,
        **{name: values.reshape(n, m) for name, values in cells.items()},
    )


def read_table(folder: Path, *, partial: bool = False, texts: bool = False) -> OutcomeTable:
    """The table of a folder in either form: saved, or in lines.

    Args:
        folder: Of a saved table if it has a table.json; else see `read_folder`.
        partial: Have the partial experts as well; of a saved table, those that it was saved with.
        texts: Have the full texts as well, if there are any.

    Raises:
        ConfigError: See `load_table` and `read_folder`.
    """
    if not (folder / MANIFEST).exists():
        return read_folder(folder, partial=partial, texts=texts)
    table = load_table(folder, texts=texts)
    wanted = [expert.name for expert in table.experts if partial or not expert.is_partial]
    if not wanted:
        raise ConfigError(f"{folder}: every expert is partial; ask for those as well")
    return table if len(wanted) == len(table.experts) else table.with_experts(wanted)


def _pack(table: OutcomeTable) -> dict[Part, bytes]:
    """The bytes of each file."""
    cells = {name: values.ravel() for name, values in table.cells().items()}
    texts = cells.pop("texts", None)
    queries = table.queries
    parts: dict[Part, bytes] = {
        "queries": pack(
            texts={
                name: [_text(query, name) for query in queries]
                for name in QUERY_COLUMNS
                if name != "flags"
            },
            lists={"flags": [sorted(query.flags) for query in queries]},
        ),
        "cells": pack(numbers=cells),
    }
    if table.answers is not None:
        parts["answers"] = pack(texts={"value": table.answers.values})
    if texts is not None:
        parts["texts"] = pack(texts={"text": texts})
    return parts


def _query_columns(schema_version: int) -> tuple[str, ...]:
    return tuple(name for name, since in QUERY_COLUMNS.items() if since <= schema_version)


def _queries(columns: dict[str, Array]) -> tuple[RecordedQuery, ...]:
    unknown = [None] * len(columns["id"])
    rows = zip(*(columns.get(name, unknown) for name in QUERY_COLUMNS), strict=True)
    return tuple(_query(dict(zip(QUERY_COLUMNS, row, strict=True))) for row in rows)


def _query(values: dict[str, Any]) -> RecordedQuery:
    said = values["annotation"]
    values["flags"] = frozenset(values["flags"])
    values["annotation"] = None if said is None else Annotation(json.loads(said))
    return RecordedQuery(**values)


def _text(query: RecordedQuery, name: str) -> str | None:
    """A column's text of a query: of its annotation JSON."""
    if name != "annotation":
        return getattr(query, name)
    annotation = query.annotation
    return None if annotation is None else json.dumps(annotation.values, ensure_ascii=False)


def _read_manifest(file: Path) -> _Manifest:
    data = file.read_bytes()
    try:
        version = _Version.model_validate_json(data).schema_version
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{file}: has schema version {version}, and this program reads {SCHEMA_VERSION}; "
                "update it"
            )
        return _Manifest.model_validate_json(data)
    except ValidationError as exc:
        raise ConfigError(f"{file}: {describe(exc)}; save the table again") from exc


def _read(
    folder: Path,
    manifest: _Manifest,
    part: Part,
    names: tuple[str, ...],
    n_rows: int | None = None,
) -> dict[str, Array]:
    """The columns of one file, which must be what the manifest says."""
    digest = manifest.sha256.get(part)
    if digest is None:
        raise ConfigError(f"{folder / MANIFEST}: names no file of {part}; save the table again")
    file = _path(folder, part, digest)
    data = file.read_bytes()
    if sha256(data).hexdigest() != digest:
        raise ConfigError(
            f"{file}: is not what was saved (its SHA-256 differs); save the table again"
        )
    try:
        columns = unpack(data)
    except NotParquetError as exc:
        raise ConfigError(f"{file}: {exc}; save the table again") from exc
    if tuple(columns) != names or n_rows not in (None, len(columns[names[0]])):
        raise ConfigError(f"{file}: does not go with {MANIFEST}; save the table again")
    return columns


def _path(folder: Path, part: Part, digest: str) -> Path:
    return folder / f"{part}-{digest[:16]}.parquet"


def _write(file: Path, data: bytes) -> None:
    """Have a file on disk whole, or what was there before."""
    beside = file.with_name(f".{file.name}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, kind: int) -> Generator[int]:
    """The folder's descriptor, with a lock on it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)
