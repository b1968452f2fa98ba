from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

QUERIES = [
    {"id": "sum", "prompt": "2 + 2?", "split": "train", "category": "maths", "reference": "4"},
    {"id": "sky", "prompt": "The sky's colour?", "split": "test", "category": "nature"},
    {"id": "odd", "prompt": "Is 3 odd?", "split": "test", "contaminated": True},
]
MODELS = [
    {"name": "eve", "partial": True, "params_b": 1},
    {"name": "ann", "params_b": 7.5, "price_in": 0.25, "price_out": 0.5, "feature": "tall"},
    {"name": "bea"},
]
OUTCOMES = [
    {"query_id": "sum", "model": "ann", "score": 1, "answer": "4", "cost": 0.5, "tokens_out": 7},
    {"query_id": "sum", "model": "bea", "score": 0.25, "answer": "5", "cost": 0.125},
    {"query_id": "sky", "model": "ann", "score": 0, "answer": None},
    {"query_id": "odd", "model": "bea", "score": 1},
]
PARTIAL = [{"query_id": "sky", "model": "eve", "score": 0.5, "answer": "blue"}]
RESPONSES = [
    {"query_id": "sum", "model": "ann", "response": "It is 4."},
    {"query_id": "sum", "model": "bea", "response": ""},
    {"query_id": "sky", "model": "eve", "response": "Blue."},
    {"query_id": "sky", "model": "ann", "response": None},
]


def write(file: Path, rows: Iterable[Any]) -> None:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    file.write_bytes(gzip.compress(b"\n".join([*lines, b""])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What ann and bea, and eve in part, said to three queries, in lines."""
    folder = tmp_path / "asked"
    folder.mkdir()
    write(folder / "queries.jsonl.gz", QUERIES)
    write(folder / "outcomes.jsonl.gz", OUTCOMES)
    write(folder / "outcomes_partial.jsonl.gz", PARTIAL)
    write(folder / "responses.jsonl.gz", RESPONSES)
    (folder / "models.json").write_text(json.dumps(MODELS), "utf-8")
    return folder


@pytest.fixture
def append(folder: Path) -> Callable[..., None]:
    """Adds lines to one of the folder's files: objects, or bytes as they are."""

    def append(name: str, *rows: Any) -> None:
        file = folder / name
        before = gzip.decompress(file.read_bytes()).splitlines()
        write(file, [*before, *rows])

    return append
