"""Model cards say what was trained and how it did."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from eval.starter import cards
from eval.starter.recipe import Recipe
from eval.starter.skills import SKILLS
from eval.starter.train import ALL

ABOUT = {**asdict(Recipe(steps=10, batch=4)), "skill": "units", "base": "b", "loss": 0.0123}


def table(*names: str) -> OutcomeTable:
    """Two test questions of each skill; the first expert is right on all, the others on one."""
    queries = tuple(
        RecordedQuery(f"{skill}-{number}", f"{skill}?", "test", skill, f"{skill}!")
        for skill in SKILLS
        for number in range(2)
    )
    score = np.ones((len(queries), len(names)), np.float32)
    score[1::2, 1:] = 0
    return OutcomeTable("run", queries, tuple(map(RecordedExpert, names)), score)


def test_a_card_says_what_was_asked_in_training_and_how_many_are_right() -> None:
    card = cards.make_card("units", ABOUT, table("units", "smol"))

    assert "# units" in card
    assert "40 questions" in card
    assert "10 steps of 4" in card
    assert "0.0123 nats" in card
    assert "| units | 1.00 [0.34, 1.00] | 0.50 [0.09, 0.91] | 2 |" in card
    assert "| dates |" not in card


def test_the_card_of_all_in_one_has_a_line_for_each_skill() -> None:
    card = cards.make_card("all-in-one", {**ABOUT, "skill": ALL}, table("all-in-one", "smol"))

    assert [skill for skill in SKILLS if f"| {skill} | 1.00" in card] == list(SKILLS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where adapters are, one of them trained."""
    monkeypatch.setattr(cards, "FOLDERS", [tmp_path / "starter", tmp_path / "outside"])
    (tmp_path / "starter" / "units").mkdir(parents=True)
    (tmp_path / "starter" / "units" / "training.json").write_text(json.dumps(ABOUT), "utf-8")
    return tmp_path


def test_each_adapter_that_a_run_asked_gets_its_card(folder: Path) -> None:
    save_table(table("units", "smol"), folder / "run" / "experts")
    app = typer.Typer()
    app.command()(cards.cards)

    result = CliRunner().invoke(app, [str(folder / "run")])

    assert result.exit_code == 0, result.output
    assert (folder / "starter" / "units" / "README.md").read_text("utf-8").startswith("---\n")


def test_a_run_that_asked_no_adapter_is_an_error_of_one_line(folder: Path) -> None:
    save_table(table("ann", "smol"), folder / "run" / "experts")
    app = typer.Typer()
    app.command()(cards.cards)

    result = CliRunner().invoke(app, [str(folder / "run")])

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "name another run" in result.stderr
