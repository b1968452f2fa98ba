from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, save_table
from eval.__main__ import app

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.eval.replay.conftest import MakeTable

ROOT = Path(__file__).parents[3]
UNEMBEDDED = "random,best-single,category-expert,prior,vote-majority[k=2],category-hindsight,oracle"
LADDER = ("random", "best-single", "category-expert", "category-hindsight", "oracle")
PAIR = ("--strong", "ann", "--weak", "bea", "--methods", "random,category-expert,prior,oracle")
ROW_KEYS = {
    "method", "split", "n", "accuracy", "ci95", "macro_accuracy", "macro_ci95",
    "delta_best_single", "delta_ci95", "cost_usd_per_1k", "oracle_gap_closed", "category",
    "settings",
}  # fmt: skip
PAIR_KEYS = {"method", "prefix", "labels", "n_seeds", "n", "apgr", "apgr_ci95", "cpt50", "cpt80"}

Invoke = Callable[..., "Result"]


@pytest.fixture(scope="module")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Invoke:
    """Runs a command of `python -m eval`, with a cache of its own."""
    env = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"}

    def invoke(*args: str | Path) -> Result:
        return CliRunner(env=env).invoke(app, [str(arg) for arg in args])

    return invoke


def done(result: Result) -> str:
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.stdout


def refusal(result: Result) -> str:
    assert isinstance(result.exception, ConfigError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def rows_of(result: Result) -> dict[str, Any]:
    return {row["method"]: row for row in json.loads(done(result))["rows"]}


def test_a_replay_prints_the_ladder_as_a_table(invoke: Invoke, saved: Path):
    printed = done(invoke("replay", saved, "--methods", UNEMBEDDED))

    lines = printed.splitlines()
    places = [next(i for i, line in enumerate(lines) if f" {name} " in line) for name in LADDER]
    assert places == sorted(places)
    assert printed.startswith("test")
    assert "accuracy [95 %]" in printed


def test_settings_in_brackets_are_printed_as_they_are_written(invoke: Invoke, saved: Path):
    printed = done(invoke("replay", saved, "--methods", "vote-majority[k=2],fixed[expert=bea]"))

    assert "vote-majority[k=2]" in printed
    assert "fixed[expert=bea]" in printed


def test_a_replay_prints_a_table_of_markdown_for_each_split(
    invoke: Invoke, tmp_path: Path, make_table: MakeTable
):
    table = make_table("train law 1 0", "test law 1 0", "test law 0 1", "ood law 0 0")
    save_table(table, tmp_path / "small")

    printed = done(
        invoke("replay", tmp_path / "small", "--methods", "random", "--output", "markdown")
    )

    lines = printed.splitlines()
    assert [line for line in lines if line.startswith("**")] == ["**test**", "**ood**"]
    cells = [line for line in lines if line.startswith("|")]
    assert len(cells) == 2 * (2 + 3)
    assert {line.count("|") for line in cells} == {10}
    assert cells[0].startswith("| method | category | n | accuracy [95 %] |")
    assert cells[2].startswith("| random | hidden | 2 | 0.5000 [")
    assert cells[2].endswith("| - | 1 |")


def test_what_is_apart_is_said_beside_n(invoke: Invoke, tmp_path: Path, make_table: MakeTable):
    table = make_table(
        "train - 1 0",
        "test - 1 1",
        "test - 1 1",
        "test - 1 1",
        answers=["A A", "- -", "A ?", "A A"],
    )
    save_table(table, tmp_path / "small")

    printed = done(
        invoke("replay", tmp_path / "small", "--methods", "vote-majority", "--output", "markdown")
    )

    assert "| vote-majority | hidden | 2 (1 unknown, 1 unanswered) | 0.5000 [" in printed


def test_a_replay_prints_json(invoke: Invoke, saved: Path):
    printed = json.loads(done(invoke("replay", saved, "--methods", UNEMBEDDED, "--output", "json")))

    assert (printed["dataset"], printed["experts"]) == ("made", ["ann", "bea", "cy"])
    assert [row["method"] for row in printed["rows"]] == UNEMBEDDED.split(",")
    assert all(row.keys() >= ROW_KEYS for row in printed["rows"])
    assert {row["n"] for row in printed["rows"]} == {20}
    assert printed["not_run"] == []


def test_best_single_and_oracle_are_always_there_and_no_method_is_twice(
    invoke: Invoke, saved: Path
):
    result = invoke("replay", saved, "--methods", "oracle,random,random", "--output", "json")

    names = [row["method"] for row in json.loads(done(result))["rows"]]
    assert names == ["oracle", "random", "best-single"]


def test_methods_that_cannot_run_are_said_on_stderr_and_in_the_json(
    invoke: Invoke, tmp_path: Path, graded: OutcomeTable
):
    save_table(replace(graded, answers=None), tmp_path / "silent")

    result = invoke(
        "replay", tmp_path / "silent", "--methods", "random,vote-majority[k=2]", "--output", "json"
    )

    assert json.loads(done(result))["not_run"] == [
        {"method": "vote-majority[k=2]", "reason": "no answers are recorded"}
    ]
    assert "vote-majority[k=2]: not run, no answers are recorded" in result.stderr


def test_a_sub_pool_is_judged_on_its_own(invoke: Invoke, saved: Path):
    every = rows_of(invoke("replay", saved, "--methods", "oracle", "--output", "json"))
    result = invoke(
        "replay", saved, "--methods", "oracle", "--experts", "cy, ann", "--output", "json"
    )

    assert json.loads(done(result))["experts"] == ["cy", "ann"]
    assert rows_of(result)["oracle"]["accuracy"] < every["oracle"]["accuracy"]


def test_categories_choose_what_is_judged(invoke: Invoke, saved: Path):
    options = ("--methods", "best-single", "--output", "json")

    every = rows_of(invoke("replay", saved, *options))
    law = rows_of(invoke("replay", saved, *options, "--categories", "law"))

    assert (every["best-single"]["n"], law["best-single"]["n"]) == (20, 10)
    assert law["best-single"]["settings"] == every["best-single"]["settings"]


def test_out_of_fold_judges_on_train(invoke: Invoke, saved: Path):
    rows = rows_of(
        invoke("replay", saved, "--methods", "prior", "--out-of-fold", "--output", "json")
    )

    assert {(row["split"], row["n"]) for row in rows.values()} == {("train-oof", 20)}


def test_known_categories_are_told_to_routers(invoke: Invoke, saved: Path):
    options = ("--methods", "prior,category-expert", "--output", "json")

    hidden = rows_of(invoke("replay", saved, *options))
    known = rows_of(invoke("replay", saved, *options, "--known-category"))

    assert (hidden["prior"]["category"], known["prior"]["category"]) == ("hidden", "known")
    assert hidden["prior"]["accuracy"] == hidden["best-single"]["accuracy"]
    assert known["prior"]["accuracy"] == known["category-expert"]["accuracy"]


def test_a_seed_changes_the_intervals_and_nothing_else(
    invoke: Invoke, tmp_path: Path, make_table: MakeTable
):
    lines = [f"{('train', 'test')[row % 2]} - {row * 17 % 31 / 31} 0.5" for row in range(30)]
    save_table(make_table(*lines), tmp_path / "fine")
    options = ("replay", tmp_path / "fine", "--methods", "oracle", "--output", "json", "--seed")

    zero, again, one = (rows_of(invoke(*options, seed))["oracle"] for seed in ("0", "0", "1"))

    assert zero == again
    assert zero["accuracy"] == one["accuracy"]
    assert zero["ci95"] != one["ci95"]


def test_duplicates_of_train_are_left_out_when_asked(
    invoke: Invoke, tmp_path: Path, make_table: MakeTable
):
    table = make_table("train - 1 0", "test - 1 0", "test - 0 1")
    copied = replace(table.queries[1], prompt=table.queries[0].prompt.upper())
    table = replace(table, queries=(table.queries[0], copied, table.queries[2]))
    save_table(table, tmp_path / "leaky")
    options = ("--methods", "random", "--output", "json")

    every = rows_of(invoke("replay", tmp_path / "leaky", *options))
    fewer = rows_of(invoke("replay", tmp_path / "leaky", *options, "--deduplicate"))

    assert (every["random"]["n"], fewer["random"]["n"]) == (2, 1)


def test_a_run_keeps_every_decision_and_goes_on_byte_for_byte(
    invoke: Invoke, tmp_path: Path, saved: Path
):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    command = ("replay", saved, "--methods", UNEMBEDDED, "--out")
    done(invoke(*command, whole))
    done(invoke(*command, resumed))
    kept = resumed / "decisions" / "test" / "prior.jsonl"
    before = kept.stat().st_mtime_ns
    (resumed / "rows.json").unlink()
    for name in ("vote-majority[k=2]", "oracle"):
        (resumed / "decisions" / "test" / f"{name}.json").unlink()

    done(invoke(*command, resumed))

    assert (resumed / "rows.json").read_bytes() == (whole / "rows.json").read_bytes()
    assert kept.stat().st_mtime_ns == before
    assert len(kept.read_text("utf-8").splitlines()) == 20
    assert (resumed / "table" / "table.json").is_file()


def test_methods_may_be_added_to_a_run(invoke: Invoke, tmp_path: Path, saved: Path):
    out = tmp_path / "run"
    done(invoke("replay", saved, "--methods", "random", "--out", out))
    done(invoke("replay", saved, "--methods", UNEMBEDDED, "--out", out))
    done(invoke("replay", saved, "--methods", UNEMBEDDED, "--out", tmp_path / "fresh"))

    added, fresh = ((path / "rows.json").read_bytes() for path in (out, tmp_path / "fresh"))

    assert added == fresh


def test_what_is_printed_as_json_is_what_is_kept(invoke: Invoke, tmp_path: Path, saved: Path):
    printed = done(
        invoke("replay", saved, "--methods", "prior", "--out", tmp_path / "run", "--output", "json")
    )

    kept = (tmp_path / "run" / "rows.json").read_text("utf-8")
    assert json.loads(printed) == json.loads(kept)


def test_a_run_with_other_options_is_refused_by_the_command(
    invoke: Invoke, tmp_path: Path, saved: Path
):
    command = ("replay", saved, "--methods", "random", "--out", tmp_path / "run")
    done(invoke(*command))

    said = refusal(invoke(*command, "--seed", "1"))

    assert said.startswith(f"{tmp_path / 'run'}: holds a run on other data or with other options")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--methods", "oracel"), "no method 'oracel'; did you mean 'oracle'?"),
        (("--experts", "ane"), "no expert 'ane'; did you mean 'ann'?"),
        (("--categories", "lore"), "no category 'lore'; choose from ['law', 'maths']"),
        (("--methods", "fixed[expert=an]"), "no recorded expert: 'an'; did you mean 'ann'?"),
    ],
)
def test_an_option_that_names_nothing_is_one_line(
    invoke: Invoke, saved: Path, args: tuple[str, ...], said: str
):
    assert said in refusal(invoke("replay", saved, *args))


def test_a_refused_method_leaves_no_run_behind(invoke: Invoke, tmp_path: Path, saved: Path):
    refusal(invoke("replay", saved, "--methods", "random,x", "--out", tmp_path / "run"))
    refusal(invoke("pair", saved, *PAIR[:4], "--methods", "random,x", "--out", tmp_path / "run"))

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["replay", "pair"])
def test_methods_that_embed_nothing_leave_the_cache_alone(
    tmp_path: Path, saved: Path, command: str
):
    options = ("--methods", "random,oracle", *(PAIR[:4] if command == "pair" else ()))

    result = CliRunner(env={"XDG_CACHE_HOME": str(tmp_path / "cache")}).invoke(
        app, [command, str(saved), *options]
    )

    done(result)
    assert not (tmp_path / "cache").exists()


def test_a_pair_is_printed_as_a_table(invoke: Invoke, saved: Path):
    printed = done(invoke("pair", saved, *PAIR))

    assert "ann against bea" in printed
    assert "APGR [95 %]" in printed
    assert all(f" {name} " in printed for name in ("random", "category-expert", "prior", "oracle"))


def test_a_pair_is_printed_as_markdown(invoke: Invoke, saved: Path):
    lines = done(invoke("pair", saved, *PAIR, "--output", "markdown")).splitlines()

    assert lines[0] == (
        "| method | category | labels | seeds | n | APGR [95 %] | CPT(50 %) | CPT(80 %) |"
    )
    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {9}


def test_a_pair_without_a_gap_is_printed_with_dashes(
    invoke: Invoke, tmp_path: Path, make_table: MakeTable
):
    save_table(make_table(*["test - 0 1"] * 6), tmp_path / "small")

    printed = done(
        invoke("pair", tmp_path / "small", *PAIR[:4], "--methods", "random", "--output", "markdown")
    )

    assert printed.splitlines()[2] == "| random | hidden | 3 | 5 | 3 | - | - | - |"


def test_a_pair_is_printed_and_kept_as_json(invoke: Invoke, tmp_path: Path, saved: Path):
    result = invoke(
        "pair", saved, *PAIR, "--out", tmp_path / "run", "--output", "json",
        "--train-labels", "12", "--category-prefix", "l", "--seeds", "3",
    )  # fmt: skip

    printed = json.loads(done(result))
    rows = {row["method"]: row for row in printed["rows"]}
    assert (printed["dataset"], printed["strong"], printed["weak"]) == ("made", "ann", "bea")
    assert 0 <= printed["weak_accuracy"] < printed["strong_accuracy"] <= 1
    assert [*rows] == ["random", "category-expert", "prior", "oracle"]
    assert all(row.keys() >= PAIR_KEYS for row in rows.values())
    assert {(row["labels"], row["n"], row["n_seeds"]) for row in rows.values()} == {(12, 8, 3)}
    assert {row["prefix"] for row in rows.values()} == {"l"}
    assert rows["category-expert"]["category"] == "known"
    assert json.loads((tmp_path / "run" / "rows.json").read_text("utf-8")) == printed


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--strong", "an", "--weak", "bea"), "no expert 'an'; did you mean 'ann'?"),
        (("--strong", "ann", "--weak", "ann"), "strong and weak are both 'ann'; name two experts"),
        ((*PAIR, "--train-labels", "40"), "40 labels of 40 questions"),
        ((*PAIR[:4], "--methods", "oracel"), "no method 'oracel'; did you mean 'oracle'?"),
    ],
)
def test_a_pair_that_cannot_be_judged_is_one_line(
    invoke: Invoke, saved: Path, args: tuple[str, ...], said: str
):
    assert said in refusal(invoke("pair", saved, *args))


def test_help_tells_of_the_ladder_and_of_settings(invoke: Invoke):
    printed = " ".join(done(invoke("replay", "--help")).split())

    assert "the ladder (a random expert, the best single expert on train" in printed
    for name in (*LADDER, "fixed[expert=NAME]", "neighbours[k=40]", "vote-majority[k=5]"):
        assert name in printed


def test_help_of_pair_tells_of_its_measures_and_methods(invoke: Invoke):
    printed = done(invoke("pair", "--help"))

    assert all(word in printed for word in ("RouteLLM", "APGR", "CPT(x)", "category-expert"))


def test_an_expected_error_of_the_program_is_one_line_and_exit_status_1(saved: Path):
    command = [sys.executable, "-m", "eval", "replay", str(saved), "--methods", "oracel"]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("error: no method 'oracel'; did you mean 'oracle'?")
