import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from composer.aggregators import make_aggregator
from composer.cli import app
from composer.outcomes import load_table

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "The answer is 42."}}
  bob: {engine: scripted, engine_args: {text: "Yes.", failures: {"17": refused}}}
  eve: {engine: scripted, engine_args: {load_failure: "it is broken"}}
"""
CASES = [
    {"id": "sum", "prompt": "17 + 25?", "reference": 42, "answer_type": "number", "category": "a"},
    {"id": "sky", "prompt": "Blue?", "reference": "yes", "answer_type": "yes_no", "category": None},
]


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    (tmp_path / "experts.yaml").write_text(EXPERTS, encoding="utf-8")
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(f"{json.dumps(case)}\n" for case in CASES), encoding="utf-8")
    return path


def run(cases: Path, *args: str) -> Result:
    folder = cases.parent
    env = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COMPOSER_EXPERTS": str(folder / "experts.yaml"),
    }
    words = ["profile", str(cases), "--save", str(folder / "saved"), *args]
    return CliRunner().invoke(app, words, env=env)


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_profile_is_saved_and_shown(cases: Path) -> None:
    result = run(cases, "--only", "ada", "--only", "bob")

    table = load_table(cases.parent / "saved", texts=True)
    assert result.exit_code == 0
    assert table.names == ("ada", "bob")
    assert table.score[:, 0].tolist() == [1, 0]
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["ada", "2", "0", "0.5"] in [row[:4] for row in rows]
    assert ["bob", "2", "1", "1"] in [row[:4] for row in rows]
    assert result.stdout.splitlines()[-1] == f"saved in {cases.parent / 'saved'}"


def test_failures_are_counted_with_their_reason_and_do_not_end_the_run(cases: Path) -> None:
    result = run(cases, "--only", "bob")

    assert result.exit_code == 0
    assert result.stderr == (
        "warning: expert 'bob': 1 failed (refused), first: as its script says; the same command "
        "asks again\n"
    )


def test_an_expert_that_answers_nothing_is_a_failure_of_the_command_and_the_rest_is_saved(
    cases: Path,
) -> None:
    result = run(cases, "--only", "ada", "--only", "eve")

    assert result.exit_code == 1
    assert "warning: expert 'eve': 2 failed (unavailable), first: it is broken" in result.stderr
    assert "error: expert 'eve' answered no case; mend it, or leave" in result.stderr
    assert load_table(cases.parent / "saved").names == ("ada", "eve")


def test_a_profile_as_json_holds_each_expert_and_the_failures(cases: Path) -> None:
    said: dict[str, Any] = json.loads(
        run(cases, "--only", "bob", "--in-flight", "1", "--output", "json").stdout
    )

    (bob,) = said["experts"]
    assert (said["cases"], bob["failed"], bob["accuracy"]) == (2, 1, 1.0)
    assert said["failures"] == [
        {"expert": "bob", "kind": "refused", "n": 1, "message": "as its script says"}
    ]


def test_the_shipped_cases_have_a_name(cases: Path) -> None:
    folder = cases.parent
    env = {"COMPOSER_EXPERTS": str(folder / "experts.yaml"), "XDG_CACHE_HOME": str(folder)}
    words = ["profile", "starter", "--save", str(folder / "saved"), "--only", "ada"]

    result = CliRunner().invoke(app, words, env=env)

    assert result.exit_code == 0
    assert len(load_table(folder / "saved").queries) == 320


def test_a_wrong_case_is_one_line_with_its_number(cases: Path) -> None:
    with cases.open("a", encoding="utf-8") as file:
        file.write('{"id": "new"}\n')

    assert f"{cases}:3: 'prompt' is missing; add it" in complaint(run(cases))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--only", "adda"], "no expert 'adda'; did you mean 'ada'?"),
        (["--annotate", "skil"], "no router that learns 'skil'; "),
        (["--annotate", "neighbours"], "router 'neighbours' asks nothing about a query; leave it"),
        (["--annotate", "neighbours:ada"], "router 'neighbours' has no setting 'annotator'; "),
    ],
)
def test_a_wrong_argument_is_one_line(cases: Path, args: list[str], said: str) -> None:
    assert said in complaint(run(cases, *args))


def test_other_cases_in_the_same_folder_are_one_line(cases: Path) -> None:
    run(cases, "--only", "ada")
    cases.write_text(json.dumps(CASES[0]), encoding="utf-8")

    assert "is of other cases; restore their ids and prompts" in complaint(run(cases))


def test_an_unset_secret_is_one_line(cases: Path) -> None:
    remote = "{engine: openai, base_url: 'http://h/v1', model: m, api_key: os.environ/NOBODY_SETS}"
    (cases.parent / "experts.yaml").write_text(f"experts: {{far: {remote}}}", encoding="utf-8")

    assert "'NOBODY_SETS' is not set" in complaint(run(cases))


def test_aggregators_are_measured_shown_and_saved_for_the_setting_from(cases: Path) -> None:
    result = run(cases, "--only", "ada", "--only", "bob", "--aggregators")

    folder = cases.parent / "saved"
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["ada", "2", "0.5", "0.09453", "to", "0.9055"] in rows
    assert make_aggregator("synthesis", {"from": str(folder)}).experts == {"bob"}
    assert load_table(folder).names == ("ada", "bob")


def test_measured_aggregators_as_json(cases: Path) -> None:
    args = ("--only", "ada", "--aggregators", "--output", "json")

    said: dict[str, Any] = json.loads(run(cases, *args).stdout)

    (ada,) = said["aggregators"]
    assert (ada["expert"], ada["n"], ada["accuracy"]) == ("ada", 2, 0.5)
    assert ada["interval"] == pytest.approx([0.0945, 0.9055], abs=1e-3)


def test_without_train_cases_aggregators_are_one_line(cases: Path) -> None:
    cases.write_text(json.dumps(CASES[0] | {"split": "test"}), encoding="utf-8")

    assert "no case has the split 'train'" in complaint(run(cases, "--aggregators"))
