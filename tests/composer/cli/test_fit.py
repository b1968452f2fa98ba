import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from composer.cli import app
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table

QUERIES = tuple(
    RecordedQuery(f"q{i}", f"Question {i}?", "test" if i % 4 == 3 else "train", "ab"[i % 2])
    for i in range(8)
)
"""Eight questions of two kinds, every fourth for testing."""


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Ann is right where the number is even, Bea where it is odd, Cy never."""
    even = np.arange(8) % 2 == 0
    score = np.stack([even, ~even, np.zeros(8)], axis=1).astype(np.float32)
    experts = tuple(RecordedExpert(name) for name in ("ann", "bea", "cy"))
    save_table(OutcomeTable("asked", QUERIES, experts, score), tmp_path / "asked")
    return tmp_path / "asked"


def fit(outcomes: Path, *args: str, router: str = "prior", save: str = "router") -> Result:
    words = ["--router", router, "--outcomes", str(outcomes)]
    words += ["--save", str(outcomes.parent / save), *args]
    env = {"XDG_CACHE_HOME": str(outcomes.parent / "cache")}
    return CliRunner().invoke(app, ["fit", *words], env=env)


def learned(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def route(folder: Path, *args: str) -> Any:
    words = ["route", "--router", str(folder), *args, "--output", "json", "Anything?"]
    return learned(CliRunner().invoke(app, words))


def test_a_router_is_fitted_saved_and_asked(outcomes: Path) -> None:
    result = fit(outcomes)

    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["router", "prior"] in rows
    assert ["n", "6"] in rows
    known = route(outcomes.parent / "router", "--category", "b")
    assert known["ranking"] == ["bea", "ann", "cy"]


def test_it_learns_from_the_train_split_unless_told(outcomes: Path) -> None:
    train = learned(fit(outcomes, "--output", "json"))
    everything = learned(fit(outcomes, "--split", "all", "--output", "json"))

    assert (train["n"], train["split"], train["experts"]) == (6, "train", ["ann", "bea", "cy"])
    assert (everything["n"], everything["split"]) == (8, "all")


def test_only_the_experts_that_are_named_are_scored(outcomes: Path) -> None:
    said = learned(fit(outcomes, "--only", "cy", "--only", "ann", "--output", "json"))

    assert said["experts"] == ["cy", "ann"]
    assert route(outcomes.parent / "router")["ranking"] == ["ann", "cy"]


def test_a_saved_router_may_be_replaced(outcomes: Path) -> None:
    fit(outcomes)

    assert fit(outcomes, "--only", "cy").exit_code == 0

    assert list(route(outcomes.parent / "router")["scores"]) == ["cy"]


@pytest.mark.parametrize("name", ["asked", "asked/table.json", "notes"])
def test_a_folder_of_something_else_is_not_written_to(outcomes: Path, name: str) -> None:
    folder = outcomes.parent / "notes"
    folder.mkdir()
    (folder / "mine.txt").touch()

    said = complaint(fit(outcomes, save=name))

    assert f"{name}: holds something else than a saved router; name another folder" in said


def test_an_empty_folder_may_be_written_to(outcomes: Path) -> None:
    (outcomes.parent / "router").mkdir()

    assert fit(outcomes).exit_code == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--set", "k"], "--set 'k' is no KEY=VALUE; write it as k=20"),
        (["--set", "=3"], "--set '=3' is no KEY=VALUE"),
        (["--set", "k=1", "--set", "k=2"], "--set gives 'k' twice; leave one"),
        (["--set", "k=1"], "router 'prior' has no setting 'k'"),
        (["--only", "anne"], "no expert 'anne'; did you mean 'ann'?"),
    ],
)
def test_a_wrong_argument_is_one_line(outcomes: Path, args: list[str], said: str) -> None:
    assert said in complaint(fit(outcomes, *args))


@pytest.mark.parametrize(
    ("value", "said"),
    [("many", "'many'"), ("-1", "-1"), ('"7"', "'7'"), ("true", "True"), ("[7]", r"[7]")],
)
def test_settings_are_read_as_json_or_else_as_text(outcomes: Path, value: str, said: str) -> None:
    line = complaint(fit(outcomes, "--set", f"k={value}", router="neighbours"))

    assert f"'k' is {said}; " in line


def test_an_unknown_router_is_one_line(outcomes: Path) -> None:
    assert "no router that is fitted 'priors'; did you mean 'prior'?" in complaint(
        fit(outcomes, router="priors")
    )


def test_outcomes_that_are_not_there_are_one_line(outcomes: Path) -> None:
    assert "no folder '" in complaint(fit(outcomes.parent / "nowhere"))


def test_a_table_without_a_train_split_is_one_line(outcomes: Path) -> None:
    table = OutcomeTable(
        "tests", QUERIES[3:4], (RecordedExpert("ann"),), np.ones((1, 1), np.float32)
    )
    save_table(table, outcomes)

    assert "tests: no split 'train'; choose from ['test']" in complaint(fit(outcomes))


def test_the_shipped_outcomes_have_a_name(outcomes: Path) -> None:
    words = ["--router", "prior", "--outcomes", "starter", "--save", str(outcomes.parent / "new")]

    said = learned(CliRunner().invoke(app, ["fit", *words, "--output", "json"]))

    assert (said["n"], said["experts"][:2], len(said["experts"])) == (240, ["smol", "gemma"], 7)


@pytest.mark.models
def test_a_router_that_embeds_learns_from_the_shipped_outcomes(outcomes: Path) -> None:
    words = ["--router", "neighbours", "--outcomes", "starter", "--output", "json"]
    env = {"XDG_CACHE_HOME": str(outcomes.parent / "cache")}

    said = learned(
        CliRunner().invoke(app, ["fit", *words, "--save", str(outcomes.parent / "new")], env=env)
    )

    assert said["summary"]["held_out"]["accuracy"] > 0
    assert said["settings"]["k"] >= 1
