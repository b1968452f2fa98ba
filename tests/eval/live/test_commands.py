from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from composer.errors import ConfigError
from eval.__main__ import app
from eval.live.command import follow
from eval.progress import Bars, open_bars
from tests.eval.live.conftest import make_experts, make_quiz

if TYPE_CHECKING:
    from typer.testing import Result

COMPOSITIONS = {
    "pair": {
        "router": {"name": "random"},
        "choose": {"k": 2},
        "aggregator": {"name": "vote", "answer_type": "number"},
    },
    "bob-alone": {"router": {"name": "fixed", "expert": "bob"}},
}
Invoke = Callable[..., "Result"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quiz as a file of cases, and its experts."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "experts.yaml").write_text(make_experts(folder, compositions=COMPOSITIONS))
    lines = [json.dumps(asdict(case)) + "\n" for case in make_quiz().cases]
    (folder / "quiz.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def invoke(folder: Path) -> Invoke:
    """Runs a command of `python -m eval`, with a cache of its own."""
    env = {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "250"}

    def invoke(*args: str | Path) -> Result:
        return CliRunner(env=env).invoke(app, [str(arg) for arg in args])

    return invoke


def run_quiz(invoke: Invoke, folder: Path, name: str, *args: str) -> Result:
    task, experts = folder / "quiz.jsonl", folder / "experts.yaml"
    return invoke("run", "--task", task, "--experts", experts, "--out", folder / name, *args)


@pytest.fixture(scope="module")
def done(invoke: Invoke, folder: Path) -> Path:
    """A finished run of two compositions."""
    result = run_quiz(invoke, folder, "done", "-c", "pair", "-c", "bob-alone")
    assert result.exit_code == 0, result.output
    return folder / "done"


def out(result: Result) -> str:
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.stdout


def refusal(result: Result) -> str:
    assert isinstance(result.exception, ConfigError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_run_prints_the_ladder_and_where_gains_come_from(invoke: Invoke, folder: Path) -> None:
    printed = out(run_quiz(invoke, folder, "printed", "-c", "pair"))

    assert printed.startswith("test")
    assert "Gain over the best single expert, and where it comes from" in printed
    assert "What the best of those asked would add, and what is left to the oracle" in printed
    for name in ("best-single", "fixed[expert=ada]", "pair", "self-moa", "oracle"):
        assert f" {name} " in printed


def test_a_run_as_json_holds_rows_and_attributions(invoke: Invoke, folder: Path) -> None:
    printed = json.loads(out(run_quiz(invoke, folder, "json", "-c", "pair", "--output", "json")))

    assert (printed["dataset"], printed["experts"]) == ("quiz", ["ada", "bob", "cas"])
    assert printed["rows"][-1]["method"] == "oracle"
    (pair,) = [row for row in printed["attribution"] if row["method"] == "pair"]
    assert (pair["n"], pair["samples"]) == (12, 2.0)
    gain, routing, aggregation = (pair["terms"][t][0] for t in ("gain", "routing", "aggregation"))
    assert gain == pytest.approx(routing + aggregation)


def test_a_limit_takes_as_many_questions_of_each_kind(invoke: Invoke, folder: Path) -> None:
    result = run_quiz(invoke, folder, "limited", "--limit", "3", "--output", "json")

    assert {row["n"] for row in json.loads(out(result))["rows"]} == {3}


def test_queries_without_an_answer_are_said_on_stderr(invoke: Invoke, folder: Path) -> None:
    text = make_experts(folder, compositions=COMPOSITIONS, experts={"bob": {"text": "x"}})
    failing = json.loads(text)
    failing["experts"]["bob"]["engine_args"]["failures"] = {"city 10": "refused"}
    failing["compositions"]["shy"] = {
        "router": {"name": "random"},
        "choose": {"threshold": 1.0, "abstain": True},
    }
    (folder / "failing.yaml").write_text(json.dumps(failing))

    result = invoke(
        *("run", "--task", folder / "quiz.jsonl", "--experts", folder / "failing.yaml"),
        *("--out", folder / "failing", "-c", "shy"),
    )

    assert out(result)
    assert "warning: shy: 12 queries without an answer count as wrong, first 'sum-10': Rou" in (
        result.stderr
    )


def test_an_expert_that_answers_nothing_ends_the_command_with_1_and_all_is_kept(
    invoke: Invoke, folder: Path
) -> None:
    text = make_experts(folder, compositions=COMPOSITIONS, experts={"cas": {"load_failure": "no"}})
    (folder / "silent.yaml").write_text(text)

    result = invoke(
        *("run", "--task", folder / "quiz.jsonl", "--experts", folder / "silent.yaml"),
        *("--out", folder / "silent"),
    )

    assert result.exit_code == 1
    said = refusal(result)
    assert re.match(
        r"nothing was answered by 'cas' \(.*\bno\b.*\); mend that and run the same", said
    )
    assert "oracle" in result.stdout
    assert (folder / "silent" / "rows.json").exists()


@pytest.mark.parametrize("output", ["table", "markdown"])
def test_attributions_of_a_run_are_printed_again(invoke: Invoke, done: Path, output: str) -> None:
    printed = out(invoke("attribution", done, "--output", output))

    assert "+ aggregation" in printed
    assert " bob-alone " in printed


def test_attributions_as_json_are_those_of_the_file(invoke: Invoke, done: Path) -> None:
    printed = json.loads(out(invoke("attribution", done, "--output", "json")))

    assert printed == json.loads((done / "attribution.json").read_text())


def test_attributions_of_a_folder_without_a_live_run_are_refused(
    invoke: Invoke, folder: Path
) -> None:
    assert "holds no finished live run (no attribution.json)" in refusal(
        invoke("attribution", folder)
    )


def test_a_broken_file_of_attributions_is_named(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "attribution.json").write_text('{"rows": [{"method": "x"}]}')

    assert "attribution.json: is broken; run its command again" in refusal(
        invoke("attribution", tmp_path)
    )


def compared(invoke: Invoke, *args: str) -> dict[str, Any]:
    return json.loads(out(invoke("compare", *args, "--output", "json")))


def test_a_composition_is_compared_with_a_rung(invoke: Invoke, done: Path) -> None:
    found = compared(invoke, f"{done}:bob-alone", f"{done}:best-single")

    assert (found["a"], found["b"]) == (f"{done}:bob-alone", f"{done}:best-single")
    assert (found["n"], found["wins"], found["losses"], found["ties"]) == (12, 4, 8, 0)
    assert found["amounts"]["accuracy"]["difference"][0] == pytest.approx(-1 / 3)
    assert found["amounts"]["tokens"]["a"][0] == pytest.approx((4 * 12 + 8 * 10) / 12)
    assert found["amounts"]["cost_usd_per_1k"]["b"][0] > 0


def test_an_expert_by_itself_and_as_a_composition_differ_in_nothing(
    invoke: Invoke, done: Path
) -> None:
    found = compared(invoke, f"{done}:bob-alone", f"{done}:fixed[expert=bob]")

    assert {name: each["difference"] for name, each in found["amounts"].items()} == {
        name: pytest.approx([0, 0, 0], abs=1e-6) for name in found["amounts"]
    }
    assert found["p_mcnemar"] == 1


def test_nobody_in_particular_has_no_tokens(invoke: Invoke, done: Path) -> None:
    found = compared(invoke, f"{done}:random", f"{done}:pair")

    assert found["amounts"]["tokens"]["a"] == [None] * 3
    assert found["amounts"]["accuracy"]["a"][0] == pytest.approx(1 / 3)


def test_two_runs_of_one_composition_need_no_name(invoke: Invoke, folder: Path) -> None:
    for name, composition in (("first", "pair"), ("second", "bob-alone")):
        out(run_quiz(invoke, folder, name, "-c", composition))

    printed = out(invoke("compare", folder / "first", folder / "second"))

    assert f"{folder / 'first'}:pair is better on " in printed
    assert "; McNemar's exact p = " in printed


def test_what_is_left_out_is_said(invoke: Invoke, folder: Path, done: Path) -> None:
    out(run_quiz(invoke, folder, "six", "-c", "pair", "--limit", "6"))

    printed = out(invoke("compare", f"{done}:pair", folder / "six", "--output", "markdown"))

    assert "**6 queries**" in printed
    assert f"queries left out: 6 of {done}:pair alone" in printed


@pytest.mark.parametrize(
    ("side", "said"),
    [
        ("{done}", "has 2 compositions; name a method behind a colon: ['random', 'best-single', "),
        ("{done}:pear", "'{done}': no method 'pear'; did you mean 'pair'?"),
        ("{done}x:pair", "names no folder; write RUN_DIR, or RUN_DIR:METHOD"),
        ("nowhere", "'nowhere' names no folder"),
        ("{done}/experts:pair", "holds no run (no manifest.json)"),
    ],
)
def test_a_side_that_cannot_be_found_is_refused(
    invoke: Invoke, done: Path, side: str, said: str
) -> None:
    told = refusal(invoke("compare", side.format(done=done), f"{done}:pair"))

    assert said.format(done=done) in told


def test_records_that_are_gone_are_asked_for(invoke: Invoke, folder: Path) -> None:
    out(run_quiz(invoke, folder, "gone", "-c", "pair"))
    (folder / "gone" / "records.jsonl").unlink()

    assert "holds no records.jsonl; run its command again" in refusal(
        invoke("compare", folder / "gone", folder / "gone")
    )


def test_a_broken_record_is_named(invoke: Invoke, folder: Path) -> None:
    out(run_quiz(invoke, folder, "broken", "-c", "pair"))
    (folder / "broken" / "records.jsonl").write_text('{"id": "x"}\n')

    assert "records.jsonl:1: is no record; run its command again" in refusal(
        invoke("compare", folder / "broken", folder / "broken")
    )


def test_a_live_run_is_reported_with_its_attributions(
    invoke: Invoke, done: Path, tmp_path: Path
) -> None:
    out(invoke("report", done, "--out", tmp_path / "page.html"))

    page = (tmp_path / "page.md").read_text()
    assert "Where gains come from" in page
    assert "asked in bulk" in page
    assert "self-moa" in page


def test_the_experts_of_a_run_are_replayed_by_the_command(invoke: Invoke, done: Path) -> None:
    printed = out(
        invoke("replay", done / "experts", "--methods", "random,prior,vote-majority[k=2]")
    )

    assert "vote-majority[k=2]" in printed
    assert "best-single" in printed


def test_progress_moves_a_bar_for_each_thing_that_is_done() -> None:
    steps: list[str] = []

    class Noting(Bars):
        def on_rows(self, name: str, total: int) -> Callable[[], None]:
            steps.append(f"{name} of {total}")
            return lambda: steps.append(name)

    with open_bars() as bars:
        show = follow(Noting(bars._progress))  # pyright: ignore[reportPrivateUsage]
        for what, done in (("experts", 0), ("experts", 2), ("experts", 1), ("panel", 1)):
            show(what, done, 2)

    assert steps == ["experts of 2", "experts", "experts", "panel of 2", "panel"]
