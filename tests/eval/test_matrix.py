"""Accuracies by category as a picture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from eval.__main__ import app
from eval.matrix import draw_matrix, expert_rows

NAN = float("nan")


@pytest.fixture
def table() -> OutcomeTable:
    """Two questions of each of two categories, in both splits."""
    queries = tuple(
        RecordedQuery(
            f"{split}-{category}-{number}", f"{split} {category} {number}?", split, category
        )
        for split in ("train", "test")
        for category in ("law", "maths")
        for number in range(2)
    )
    score = np.array([[1, 0], [1, NAN], [0, 1], [0.5, 1]] * 2, np.float32)
    return OutcomeTable("recorded", queries, (RecordedExpert("ann"), RecordedExpert("ben")), score)


@pytest.fixture
def run(table: OutcomeTable, tmp_path: Path) -> Path:
    """The folder of a replay."""
    save_table(table, tmp_path / "recorded")
    words = ["replay", str(tmp_path / "recorded"), "--methods", "best-single,oracle"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), "--output", "json"])
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def invoke(*words: str) -> str:
    """Run the command, which has to work."""
    result = CliRunner().invoke(app, ["matrix", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_expert_has_its_accuracy_in_each_category_and_over_all(table: OutcomeTable) -> None:
    rows = expert_rows(table.split("test"))

    assert rows["ann"].tolist() == [1.0, 0.25, 0.625]
    assert rows["ben"].tolist() == pytest.approx([0.0, 1.0, 2 / 3])


def test_each_cell_is_written_and_what_is_unknown_is_left_white(tmp_path: Path) -> None:
    draw_matrix(tmp_path / "m.svg", {"ann": np.array([0.25, NAN])}, ["law", "maths"])

    drawn = (tmp_path / "m.svg").read_text("utf-8")
    texts = re.findall(r"<!-- (.+?) -->", drawn)
    assert {"0.25", "ann", "law", "maths"} <= {*texts}
    assert "nan" not in texts


def test_experts_and_the_methods_of_a_run_are_rows(run: Path, tmp_path: Path) -> None:
    invoke(str(run), "--out", str(tmp_path / "m.svg"))

    texts = re.findall(r"<!-- (.+?) -->", (tmp_path / "m.svg").read_text("utf-8"))
    assert {"ann", "ben", "best-single", "oracle", "all"} <= {*texts}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "ood"), r"run: has no part 'ood'; it has \['test'\]"),
        (("--methods", "orakel"), r"no method 'orakel' was judged"),
        (("--out", "m.txt"), r"cannot draw 'm.txt'; name a file that ends in"),
    ],
)
def test_what_cannot_be_drawn_is_said_with_what_there_is(
    run: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        invoke(str(run), "--out", str(tmp_path / "m.svg"), *words)


def test_runs_of_other_categories_are_not_drawn_together(
    run: Path, table: OutcomeTable, tmp_path: Path
) -> None:
    save_table(table.in_categories(["law"]), tmp_path / "less")
    words = ["replay", str(tmp_path / "less"), "--methods", "best-single,oracle"]
    CliRunner().invoke(app, [*words, "--out", str(tmp_path / "other")])

    with pytest.raises(ConfigError, match="other: has the categories"):
        invoke(str(run), str(tmp_path / "other"), "--out", str(tmp_path / "m.svg"))
