from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from eval.lint import lint

app = typer.Typer()
app.command()(lint)


def save(folder: Path, *scores: float) -> str:
    """A table of one expert, and as many queries as scores, half of them in train."""
    queries = [
        RecordedQuery(f"q{i}", f"What is {i}?", "test" if i % 2 else "train")
        for i in range(len(scores))
    ]
    score = np.array(scores, np.float32)[:, None]
    save_table(OutcomeTable("made", tuple(queries), (RecordedExpert("[ann]"),), score), folder)
    return str(folder)


def test_what_is_odd_is_shown_as_a_table(tmp_path: Path):
    result = CliRunner().invoke(app, [save(tmp_path, 0.5, 0.5, 0.5)])

    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if "constant" in line]
    assert line.split()[:3] == ["warning", "constant", "expert"]
    assert "'[ann]' scores 0.5 on every query" in line
    assert line.split()[-3:] == ["3", "q0,", "q1"]


def test_what_is_odd_is_written_as_json(tmp_path: Path):
    result = CliRunner().invoke(app, [save(tmp_path, 0.5, 0.5), "--output", "json"])

    assert json.loads(result.stdout) == [
        {
            "kind": "constant",
            "severity": "warning",
            "message": "expert '[ann]' scores 0.5 on every query; was it scored?",
            "rows": ["q0", "q1"],
            "n_rows": 2,
        }
    ]


@pytest.mark.parametrize(("output", "said"), [("table", "nothing odd\n"), ("json", "[]\n")])
def test_nothing_odd_is_said_too(tmp_path: Path, output: str, said: str):
    result = CliRunner().invoke(app, [save(tmp_path, 0, 1), "--output", output])

    assert (result.exit_code, result.stdout) == (0, said)


@pytest.mark.parametrize("output", ["table", "json"])
def test_an_error_is_the_exit_status(tmp_path: Path, output: str):
    result = CliRunner().invoke(app, [save(tmp_path, 0, 2), "--output", output])

    assert result.exit_code == 1
    assert "score_range" in result.stdout


def test_a_folder_that_is_not_there_is_one_error(tmp_path: Path):
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])

    assert isinstance(result.exception, ConfigError)
