"""Files of benchmarks, written as they are published."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Publishing:
    """Writes files of a benchmark to a folder of its own."""

    folder: Path

    def _path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def text(self, name: str, text: str) -> Path:
        path = self._path(name)
        path.write_text(text, encoding="utf-8")
        return path

    def lines(self, name: str, rows: Iterable[Any]) -> Path:
        return self.text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def packed(self, name: str, rows: Iterable[Any]) -> Path:
        path = self._path(name)
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        return path

    def csv(self, name: str, rows: Iterable[Sequence[str]]) -> Path:
        path = self._path(name)
        with path.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows(rows)
        return path

    def parquet(self, name: str, rows: list[dict[str, Any]]) -> Path:
        pa: Any = import_module("pyarrow")
        pq: Any = import_module("pyarrow.parquet")
        path = self._path(name)
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path


@pytest.fixture
def publishing(tmp_path: Path) -> Publishing:
    """A folder for files of a benchmark."""
    return Publishing(tmp_path / "data")
