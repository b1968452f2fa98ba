"""The command that trains an adapter, as far as it needs no model."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from eval.starter.loss_chart import draw_losses
from eval.starter.recipe import Recipe
from eval.starter.skills import SKILLS
from eval.starter.train import ALL, BASE, train, training_items

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(train)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_skill_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no skill 'unit'; did you mean 'units'"):
        training_items("unit", Recipe())
    result = run("unit")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_each_step_has_questions_of_its_own() -> None:
    items = training_items("units", Recipe(steps=3, batch=5))
    assert len(items) == len({item.id for item in items}) == 15
    assert {item.skill for item in items} == {"units"}


def test_all_in_one_learns_as_many_questions_as_one_skill_an_equal_share_of_each() -> None:
    recipe = Recipe(steps=20, batch=7)

    items = training_items(ALL, recipe)

    counts = Counter(item.skill for item in items)
    assert counts.total() == 140
    assert counts.keys() == SKILLS.keys()
    assert max(counts.values()) - min(counts.values()) <= len(SKILLS)
    assert [item.skill for item in items] != sorted(item.skill for item in items)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder that says it was trained with the defaults."""
    about = {"skill": "units", "base": BASE, **asdict(Recipe()), "loss": 0.1}
    (tmp_path / "training.json").write_text(json.dumps(about), "utf-8")
    return tmp_path


def test_what_is_trained_is_not_trained_again(trained: Path) -> None:
    result = run("units", "--out", str(trained))
    assert result.exit_code == 0
    assert "is trained already" in result.stderr


def test_the_folder_of_another_training_is_refused(trained: Path) -> None:
    result = run("units", "--out", str(trained), "--steps", "7")
    assert result.exit_code == 1
    assert "holds an adapter of another training; name another folder" in result.stderr


def test_the_losses_are_drawn(tmp_path: Path) -> None:
    draw_losses(tmp_path / "losses.svg", {"units": [2.0, 1.0, 0.5], "dates": [3.0, 0.1]})
    assert (tmp_path / "losses.svg").read_text("utf-8").count("<path") > 10
