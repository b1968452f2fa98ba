from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from composer.errors import ConfigError
from eval.replay.run_folder import make_manifest, open_run
from eval.report.command import report_command
from tests.eval.report.conftest import make_run, make_table

app = typer.Typer()
app.command("report")(report_command)


def report(*words: str | Path) -> str:
    """What the command prints on stdout."""
    result = CliRunner().invoke(app, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_report_is_an_html_file_and_its_twin(pair: Path, tmp_path: Path):
    printed = report(pair, "--out", tmp_path / "both.html")

    assert {file.name for file in tmp_path.iterdir()} == {"both.html", "both.md"}
    assert (tmp_path / "both.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "both.md").read_text("utf-8").startswith("# Report: between\n")
    assert printed == f"wrote {tmp_path / 'both.html'} and {tmp_path / 'both.md'}\n"


@pytest.mark.parametrize("there", ["mine.html", "mine.md"])
def test_nothing_is_overwritten(pair: Path, tmp_path: Path, there: str):
    (tmp_path / there).write_text("precious", encoding="utf-8")

    with pytest.raises(ConfigError, match=rf"{there}' exists; .* --force"):
        report(pair, "--out", tmp_path / "mine.html")

    assert [file.read_text("utf-8") for file in tmp_path.iterdir()] == ["precious"]


def test_files_are_replaced_when_asked_for(pair: Path, tmp_path: Path):
    (tmp_path / "mine.md").write_text("precious", encoding="utf-8")

    report(pair, "--out", tmp_path / "mine.html", "--force")

    assert (tmp_path / "mine.md").read_text("utf-8").startswith("# Report")


def test_the_file_must_be_an_html_file(pair: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"does not end in \.html; name"):
        report(pair, "--out", tmp_path / "mine.md")


def test_a_folder_that_there_is_not_is_said(pair: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"there is no folder '.*nowhere'; make it"):
        report(pair, "--out", tmp_path / "nowhere" / "mine.html")


def test_a_file_that_cannot_be_written_is_said_and_leaves_nothing(pair: Path, tmp_path: Path):
    (tmp_path / "mine.html").mkdir()

    with pytest.raises(ConfigError, match=r"cannot be written \(Is a directory\); name"):
        report(pair, "--out", tmp_path / "mine.html", "--force")

    assert [file.name for file in tmp_path.iterdir()] == ["mine.html"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    (tmp_path / "other").mkdir()

    with pytest.raises(ConfigError, match=r"other' holds no run \(no manifest\.json\); name"):
        report(tmp_path / "other", "--out", tmp_path / "mine.html")


def test_an_unfinished_run_is_refused_with_the_command_that_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["eval", "replay", "my data", "--out", "runs/half"])
    open_run(tmp_path / "half", make_manifest("replay", make_table(), {}))

    with pytest.raises(ConfigError) as error:
        report(tmp_path / "half", "--out", tmp_path / "mine.html")

    said, _, command = str(error.value).partition("; finish it: ")
    assert said.endswith("half' holds an unfinished run (no rows.json)")
    words = ["python", "-m", "eval", "replay", "my data", "--out", "runs/half"]
    assert shlex.split(command) == words


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("manifest.json", "{", "is no JSON; name another folder, or run it again"),
        ("manifest.json", '{"kind": "replay"}', "'config_hash': field required; name another"),
        ("rows.json", '{"rows": [{"method": "oracle"}]}', "'split': field required; run its"),
        ("rows.json", '{"rows": 1}', "'rows': input should be a valid tuple; name another"),
    ],
)
def test_a_damaged_run_is_said(tmp_path: Path, file: str, text: str, said: str):
    folder = make_run(tmp_path / "damaged", make_table(), ["best-single", "oracle"])
    (folder / file).write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as error:
        report(folder, "--out", tmp_path / "mine.html")

    assert f"{folder / file}: {said}" in str(error.value)
    assert "\n" not in str(error.value)


def test_decisions_that_are_gone_are_said(tmp_path: Path):
    folder = make_run(tmp_path / "damaged", make_table(), ["best-single", "oracle"])
    (folder / "decisions" / "test" / "oracle.json").unlink()

    with pytest.raises(ConfigError, match="no decisions of 'oracle' on 'test'; run its command"):
        report(folder, "--out", tmp_path / "mine.html")


def test_decisions_about_other_queries_are_said(tmp_path: Path):
    folder = make_run(tmp_path / "damaged", make_table(), ["best-single", "oracle"])
    for file in (folder / "decisions" / "test").glob("*.jsonl"):
        file.write_text(file.read_text("utf-8").replace('"q30"', '"other"'), encoding="utf-8")

    with pytest.raises(ConfigError, match="decisions on 'test' about queries that its table lacks"):
        report(folder, "--out", tmp_path / "mine.html")


def test_a_method_that_no_run_has_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(
        ConfigError, match="no method in these runs 'orakel'; did you mean 'oracle'"
    ):
        report(run, "--out", tmp_path / "mine.html", "--method", "orakel")


def test_without_matplotlib_the_extra_is_named(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ConfigError, match=r"pip install 'multi-llm-composer\[eval\]'"):
        report(pair, "--out", tmp_path / "mine.html")
