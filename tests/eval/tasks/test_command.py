from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.profile import read_cases
from eval.tasks.command import tasks_command
from eval.tasks.registry import TASKS, load_task
from eval.tasks.subset import limit
from tests.eval.tasks.conftest import Publishing

app = typer.Typer()
app.command("tasks")(tasks_command)

CODE = {
    "task_id": "h",
    "prompt": "def f():\n",
    "entry_point": "f",
    "canonical_solution": "    return 2",
    "test": "def check(f): assert f() == 2",
}


def run(*arguments: str) -> str:
    """What a command writes to stdout."""
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None, result.exception
    return result.stdout


def refusal(*arguments: str) -> str:
    """Why nothing was done."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_without_a_name_every_task_is_listed():
    listed = run()

    for entry in TASKS.values():
        (line,) = [line for line in listed.splitlines() if line.split()[:1] == [entry.usage]]
        assert entry.about in line


def test_the_list_is_written_as_json():
    assert json.loads(run("--output", "json"))[0] == {
        "name": "starter[:SKILL]",
        "about": TASKS["starter"].about,
    }


def test_a_task_is_shown_with_its_counts_and_an_example():
    shown = run("starter:roman", "--limit", "3")

    rows = [line.split() for line in shown.splitlines()]
    assert ["train", "roman", "text", "3"] in rows or ["train", "roman", "number", "3"] in rows
    example = load_task("starter:roman").cases[0]
    assert example.prompt in shown
    assert f"right is: {example.reference}" in shown


def test_a_task_is_described_as_json():
    described = json.loads(run("starter:sorting", "--split", "test", "--output", "json"))

    assert described["task"] == "starter:sorting"
    assert described["cases"] == [
        {"split": "test", "category": "sorting", "answer_type": "text", "n": 100}
    ]
    assert described["example"]["id"] == "sorting-test-0"


def test_cases_are_written_as_a_profile_reads_them(tmp_path: Path):
    out = tmp_path / "cases.jsonl"

    said = run("starter", "--limit", "10", "--out", str(out))

    assert read_cases(out) == limit(load_task("starter"), 10).cases
    assert said == f"wrote 20 cases to {out}\n"


def test_only_the_split_that_is_named_is_written(tmp_path: Path):
    out = tmp_path / "cases.jsonl"

    described = run(
        "starter", "--split", "test", "--limit", "5", "--out", str(out), "--output", "json"
    )

    assert [case.split for case in read_cases(out)] == ["test"] * 5
    assert sum(row["n"] for row in json.loads(described)["cases"]) == 5


def test_a_split_that_there_is_not_is_refused():
    assert refusal("starter", "--split", "dev") == (
        "'starter' has no split 'dev'; choose from ['train', 'test']"
    )


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path):
    out = tmp_path / "cases.jsonl"
    out.write_text("mine", "utf-8")
    arguments = ("starter:sorting", "--limit", "1", "--out", str(out))

    assert refusal(*arguments).endswith("exists; name another --out, or replace it with --force")
    assert out.read_text("utf-8") == "mine"
    run(*arguments, "--force")

    assert len(read_cases(out)) == 2


def test_a_folder_that_there_is_not_is_refused(tmp_path: Path):
    out = tmp_path / "gone" / "cases.jsonl"

    assert "cannot be written (No such file or directory)" in refusal("starter", "--out", str(out))


def test_a_task_that_is_scored_by_running_code_is_shown_and_not_written(publishing: Publishing):
    file = publishing.lines("HumanEval.jsonl", [CODE])
    out = publishing.folder / "cases.jsonl"

    assert "humaneval" in run(f"humaneval:{file}")
    assert refusal(f"humaneval:{file}", "--out", str(out)).startswith(
        "'humaneval' is scored by running its tests, which a file of cases does not hold"
    )
    assert not out.exists()


def test_leaks_are_refused_or_left_out(publishing: Publishing):
    row = {"question": "1 + 1?", "answer": "#### 2"}
    publishing.lines("train.jsonl", [row])
    publishing.lines("test.jsonl", [row])
    name = f"gsm8k:{publishing.folder}"
    out = publishing.folder / "cases.jsonl"

    assert "in train as well" in refusal(name, "--out", str(out))
    run(name, "--out", str(out), "--drop-leaks")

    assert [case.split for case in read_cases(out)] == ["test"]


@pytest.mark.parametrize("n", ["0", "-1"])
def test_a_limit_below_one_is_refused(n: str):
    assert CliRunner().invoke(app, ["starter", "--limit", n]).exit_code == 2
