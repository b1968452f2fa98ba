import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from composer.bulk.bars import Bar
from composer.bulk.progress import StageRecord
from composer.cli import app
from composer.cli.stages_picture import bars_of_plan, bars_of_records
from composer.pool.stages import Estimate, Plan, Stage

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "Hi", memory_gib: 1}}
  bob: {engine: scripted, engine_args: {text: "Hi", memory_gib: 2}}
  eve: {engine: scripted, engine_args: {text: "Hi", memory_gib: 5}}
  far: {engine: openai, base_url: "http://localhost:9/v1", model: m}
compositions:
  auto: {router: {name: fixed, expert: ada}}
  panel:
    router: {name: fixed, expert: ada}
    aggregator: {name: synthesis, by: bob}
  picky: {router: {name: random}, choose: {threshold: 1, abstain: true}}
pool: {memory_gib: 2, warm_spares: 0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three questions, one of them no question, and experts that do not fit together."""
    (tmp_path / "experts.yaml").write_text(EXPERTS, "utf-8")
    lines = ['{"id": "a", "prompt": "Why?"}', "{", '{"id": "b", "prompt": "How?"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), "utf-8")
    return tmp_path


def invoke(folder: Path, *args: str) -> Result:
    env = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COMPOSER_EXPERTS": str(folder / "experts.yaml"),
    }
    return CliRunner().invoke(app, args, env=env)


def plan(folder: Path, *args: str) -> Result:
    return invoke(folder, "plan", str(folder / "in.jsonl"), *args)


def planned(folder: Path, *args: str) -> dict[str, Any]:
    return json.loads(plan(folder, *args, "--output", "json").stdout)


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_synthesis_of_two_experts_takes_two_loads(folder: Path) -> None:
    result = plan(folder, "-c", "panel")

    rows = [line.split() for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (0, "")
    assert ["ada", "2", "2", "10", "512"] in rows
    assert ["bob", "0", "2", "522", "512"] in rows
    assert ["1", "ada", "2", "512", "yes", "0", "s", "12", "s"] in rows
    assert ["1", "bob", "2", "512", "yes", "12", "s", "24", "s"] in rows
    assert (
        "2 queries: 2 loads of 3.00 GiB, about 24 s, 532 + 1,024 tokens, 0 USD\n"
        "memory: 2.00 GiB at most, of 2.00\n"
        "lines rejected: 1, first: line 2: is not JSON at character 3\n"
    ) in result.stdout


def test_what_is_guessed_is_said(folder: Path) -> None:
    notes = [line for line in plan(folder).stdout.splitlines() if line.startswith("note: ")]

    assert any("a load is guessed to take 10 s" in note for note in notes)
    assert any("tokens/s are guessed (2000 read, 300 written): ada" in note for note in notes)


def test_a_plan_as_json_holds_experts_stages_and_estimate(folder: Path) -> None:
    value = planned(folder, "-c", "panel")

    assert [expert["expert"] for expert in value["experts"]] == ["ada", "bob"]
    assert [stage["experts"] for stage in value["stages"]] == [["ada"], ["bob"]]
    assert [stage["slot"] for stage in value["stages"]] == [0, 0]
    assert value["stages"][0]["end_s"] == value["stages"][1]["start_s"]
    estimate = value["estimate"]
    assert (estimate["loads"], estimate["peak_bytes"], estimate["budget_bytes"]) == (
        2,
        2 << 30,
        2 << 30,
    )
    assert value["rejected"] == [{"number": 2, "reason": "is not JSON at character 3"}]


def test_an_expert_by_its_own_name_answers_alone(folder: Path) -> None:
    (stage,) = planned(folder, "-c", "bob")["stages"]

    assert stage["experts"] == ["bob"]


def test_an_endpoint_has_no_stage_and_it_is_said(folder: Path) -> None:
    assert planned(folder, "-c", "far")["endpoints"] == ["far"]
    assert "not in the stages, since they take no slot: far" in plan(folder, "-c", "far").stdout


def test_queries_that_nobody_is_to_answer_are_counted(folder: Path) -> None:
    assert planned(folder, "-c", "picky")["refused"] == 2
    assert "queries that the composition abstains from: 2" in plan(folder, "-c", "picky").stdout


def test_an_expert_larger_than_memory_is_refused_with_how_much(folder: Path) -> None:
    assert "takes 5.00 GiB, 3.00 GiB more than" in complaint(plan(folder, "-c", "eve"))


def test_stages_of_a_batch_before_say_how_fast_engines_are(folder: Path) -> None:
    run = folder / "run"
    invoke(folder, "batch", str(folder / "in.jsonl"), "--out", str(run))
    (record,) = (json.loads(line) for line in (run / "stages.jsonl").read_text().splitlines())
    slow = record | {"start_s": 0, "load_s": 2, "end_s": 6, "completion_tokens": 4}
    (folder / "slow.jsonl").write_text(json.dumps(slow), "utf-8")

    (stage,) = planned(folder, "--rates", str(folder / "slow.jsonl"))["stages"]

    assert stage["end_s"] - stage["ready_s"] == pytest.approx(512 + 10 / 2000)


def test_a_line_of_rates_that_is_no_stage_is_one_line_with_its_number(folder: Path) -> None:
    (folder / "rates.jsonl").write_text('{"engine": "ada"}\n', "utf-8")

    said = complaint(plan(folder, "--rates", str(folder / "rates.jsonl")))

    assert f"{folder / 'rates.jsonl'}:1: is no stage; name the stages.jsonl of a batch" in said


@pytest.mark.parametrize("args", [["plan"], ["plan", "in.jsonl", "--after", "run"]])
def test_either_queries_or_a_batch_that_ran_are_named(folder: Path, args: list[str]) -> None:
    assert "name either a file of queries or --after RUN_DIR" in complaint(invoke(folder, *args))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-c", "pannel"], "no composition 'pannel'; did you mean 'panel'?"),
        (["--picture", "a.gif"], "name a file that ends in .png or .svg"),
    ],
)
def test_a_wrong_argument_is_one_line(folder: Path, args: list[str], said: str) -> None:
    assert said in complaint(plan(folder, *args))


def test_a_plan_is_drawn(folder: Path) -> None:
    result = plan(folder, "-c", "panel", "--picture", str(folder / "plan.png"))

    assert result.exit_code == 0
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_a_plan_without_a_stage_cannot_be_drawn(folder: Path) -> None:
    result = plan(folder, "-c", "picky", "--picture", str(folder / "plan.png"))

    assert result.exit_code == 1
    assert result.stderr == "error: there is no stage to draw; leave out --picture\n"


def test_a_batch_that_ran_is_shown_and_drawn_as_it_went(folder: Path) -> None:
    out = str(folder / "run")
    invoke(folder, "batch", str(folder / "in.jsonl"), "--out", out, "-c", "panel")
    drawn = folder / "after.svg"

    shown = invoke(folder, "plan", "--after", out, "--picture", str(drawn))
    value = json.loads(invoke(folder, "plan", "--after", out, "--output", "json").stdout)

    rows = [line.split() for line in shown.stdout.splitlines()]
    assert [row[:3] for row in rows if len(row) == 6] == [["ada", "2", "2"], ["bob", "2", "2"]]
    assert "<svg" in drawn.read_text("utf-8")
    assert [stage["experts"] for stage in value] == [["ada"], ["bob"]]


def test_a_folder_without_a_batch_is_one_line(folder: Path) -> None:
    said = complaint(invoke(folder, "plan", "--after", str(folder)))

    assert "stages.jsonl: cannot be read" in said


def record(
    engine: str,
    start_s: float,
    end_s: float,
    load_s: float = 0.0,
    slot: int | None = 0,
    run: int = 1,
) -> StageRecord:
    return StageRecord(engine, (engine,), start_s, load_s, end_s, 1, 1, slot, run)


def test_a_stage_is_loaded_and_then_answers() -> None:
    assert bars_of_records([record("a", 1, 9, load_s=3)]) == ([Bar(0, "a", 1, 4, 9)], 1)


def test_stages_are_on_their_slots_and_endpoints_below_them() -> None:
    far, other = record("far", 0, 2, slot=None), record("other", 1, 2, slot=None)
    records = [far, record("b", 0, 3, slot=1), record("a", 0, 9), other, far]

    bars, slots = bars_of_records(records)

    assert slots == 2
    assert [bar.lane for bar in bars] == [2, 1, 0, 3, 2]


def test_a_batch_that_went_on_is_drawn_behind_what_went_before() -> None:
    records = [record("a", 0, 10), record("b", 10, 20), record("c", 1, 4, run=2)]

    bars, _ = bars_of_records([*records, record("d", 0, 1, run=3)])

    assert [(bar.start_s, bar.end_s) for bar in bars] == [(0, 10), (10, 20), (21, 24), (24, 25)]


def test_the_slots_of_a_machine_are_below_those_of_the_one_before_it() -> None:
    stage = Stage("east", 1, "e", np.arange(1), True, False, 0.0, 2.0, 5.0)
    plan = Plan((replace(stage, node="west"), stage), Estimate(2, 0, 5.0, 0, 0, 0.0, 0))

    bars = bars_of_plan(plan, {"e": ("ada",)}, {"east": 2, "west": 2})

    assert bars == [Bar(3, "ada", 0.0, 2.0, 5.0), Bar(1, "ada", 0.0, 2.0, 5.0)]
