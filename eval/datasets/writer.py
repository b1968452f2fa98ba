"""What was imported -> a folder of the form that composer.outcomes reads, all of it or nothing."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, read_folder
from composer.outcomes.cells import AMOUNTS
from composer.outcomes.lines import MODELS, OUTCOMES, PARTIAL, QUERIES, RESPONSES
from eval.datasets.imported import Imported, Outcome

SOURCE = "SOURCE.md"
WRITTEN = frozenset({QUERIES, MODELS, OUTCOMES, PARTIAL, RESPONSES, SOURCE})
"""The files that a folder of this form may hold; with any other it is never replaced."""


def check_destination(folder: Path, *, force: bool) -> None:
    """Refuse a folder that must not be replaced.

    Raises:
        ConfigError: It is a file, or holds a table (and `force` is not set) or anything else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; name a folder that does not exist yet")
    there = {entry.name for entry in folder.iterdir()}
    if foreign := sorted(there - WRITTEN):
        raise ConfigError(
            f"{str(folder)!r} holds {foreign[0]!r}, which is no part of a table; name another "
            "folder"
        )
    if there and not force:
        raise ConfigError(f"{str(folder)!r} is not empty; replace it with --force")


def write_folder(imported: Imported, folder: Path, about: str) -> OutcomeTable:
    """Write a folder and read it back; one that is there is replaced.

    Args:
        imported: What it is to hold.
        folder: Appears whole, or not at all.
        about: The text of its SOURCE.md.

    Returns:
        The table that was read back.

    Raises:
        ConfigError: The folder cannot be written, or what was written cannot be read.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
            made, old = Path(beside, folder.name), Path(beside, "old")
            made.mkdir()
            _write(imported, made, about)
            table = read_folder(made, texts=True)
            try:
                if folder.exists():
                    folder.rename(old)
                made.rename(folder)
            finally:
                if old.exists() and not folder.exists():
                    old.rename(folder)
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be written ({exc}); name another folder") from exc
    return table


def source_note(
    imported: Imported,
    name: str,
    *,
    source_format: str,
    root: Path,
    flags: Sequence[str],
    today: datetime.date,
) -> str:
    """The text of SOURCE.md: what a folder was made of, and how."""
    splits: dict[str, int] = {}
    for query in imported.queries:
        splits[query.split] = splits.get(query.split, 0) + 1
    n_cells = len(imported.queries) * len(imported.experts)
    lines = [
        f"# {name}: outcomes imported from {source_format}",
        "",
        f"- Source: `{root.resolve().name}`, {len(imported.files)} files (below), imported on "
        f"{today} by `python -m eval import {source_format}`. Its licence holds for this as well.",
        f"- Options: {' '.join(flags) or 'the defaults'}.",
        f"- Queries: {', '.join(f'{n} {split}' for split, n in sorted(splits.items()))}.",
        f"- Models: {len(imported.experts)}. Outcomes: {len(imported.outcomes)}, "
        f"{n_cells - len(imported.outcomes)} cells missing. Texts: {len(imported.texts)}.",
        *(f"- Note: {note}." for note in imported.notes),
        "",
        "| file | SHA-256 |",
        "|---|---|",
    ]
    base = root if root.is_dir() else root.parent
    lines += [
        f"| {file.relative_to(base).as_posix()} | {_sha256(file)} |" for file in imported.files
    ]
    return "\n".join(lines) + "\n"


def _write(imported: Imported, folder: Path, about: str) -> None:
    _write_lines(folder / QUERIES, map(_query_line, imported.queries))
    models = json.dumps([_model_line(expert) for expert in imported.experts], indent=1)
    (folder / MODELS).write_text(models + "\n", encoding="utf-8")
    _write_lines(folder / OUTCOMES, map(_outcome_line, imported.outcomes))
    if imported.texts:
        _write_lines(folder / RESPONSES, map(_text_line, imported.texts.items()))
    (folder / SOURCE).write_text(about, encoding="utf-8")


def _write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    # Neither time nor name go into the file: equal contents are equal bytes.
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for line in lines:
            packed.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _query_line(query: RecordedQuery) -> dict[str, Any]:
    line = {
        "id": query.id,
        "prompt": query.prompt,
        "category": query.category,
        "reference": query.reference,
        "split": query.split,
    }
    return line | dict.fromkeys(sorted(query.flags), True)


def _model_line(expert: RecordedExpert) -> dict[str, Any]:
    return {
        "name": expert.name,
        "params_b": expert.params_b,
        "price_in": expert.input_usd_per_mtok,
        "price_out": expert.output_usd_per_mtok,
    }


def _outcome_line(outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {
        "query_id": outcome.query_id,
        "model": outcome.model,
        "score": outcome.score,
    }
    for name, key in AMOUNTS:
        if (value := getattr(outcome.details, name)) is not None:
            line[key] = value
    if outcome.details.has_answer:
        line["answer"] = outcome.details.answer
    return line


def _text_line(cell: tuple[tuple[str, str], str]) -> dict[str, Any]:
    (query_id, model), text = cell
    return {"query_id": query_id, "model": model, "response": text}


def _sha256(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()
