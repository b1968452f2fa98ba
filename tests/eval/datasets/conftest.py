"""The import command, run on what a test wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, read_folder
from eval.datasets.command import import_outcomes

if TYPE_CHECKING:
    from typer.testing import Result

app = typer.Typer()
app.command("import")(import_outcomes)


@dataclass(frozen=True)
class Importing:
    """Writes sources, runs the command on them, and reads back what it made."""

    folder: Path

    @property
    def dest(self) -> Path:
        return self.folder / "made"

    def text(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def json(self, name: str, value: Any) -> Path:
        return self.text(name, json.dumps(value))

    def lines(self, name: str, records: Iterable[Any]) -> Path:
        return self.text(name, "".join(json.dumps(record) + "\n" for record in records))

    def run(self, source_format: str, src: Path, *flags: str) -> Result:
        return CliRunner().invoke(app, [source_format, str(src), str(self.dest), *flags])

    def done(self, source_format: str, src: Path, *flags: str) -> Result:
        result = self.run(source_format, src, *flags)
        assert result.exception is None, result.exception
        return result

    def table(self, source_format: str, src: Path, *flags: str) -> OutcomeTable:
        self.done(source_format, src, *flags)
        return read_folder(self.dest, texts=True)

    def scores(self, source_format: str, src: Path, *flags: str) -> dict[str, dict[str, float]]:
        """Prompt -> model -> score, of the cells that are known."""
        table = self.table(source_format, src, *flags)
        return {
            query.prompt: {
                name: round(float(score), 6)
                for name, score in zip(table.names, row, strict=True)
                if not np.isnan(score)
            }
            for query, row in zip(table.queries, table.score, strict=True)
        }

    def refusal(self, source_format: str, src: Path, *flags: str) -> str:
        """Why nothing was made."""
        result = self.run(source_format, src, *flags)
        assert isinstance(result.exception, ConfigError), result.exception
        assert not self.dest.exists()
        message = str(result.exception)
        assert "\n" not in message
        return message


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """The import command, and a folder of its own."""
    return Importing(tmp_path)
