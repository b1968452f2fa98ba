import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from composer.bulk.progress import StageRecord
from composer.cli import app
from composer.cli.stages_picture import Bar, bars_of_records, record_bars
from composer.experts import load_experts

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


def record(engine: str, start_s: float, end_s: float, load_s: float = 0.0) -> StageRecord:
    return StageRecord(engine, (engine,), start_s, load_s, end_s, 1, 1)


def is_local(record: StageRecord) -> bool:
    return record.engine != "far"


def test_a_stage_is_loaded_and_then_answers() -> None:
    (bar,) = bars_of_records([record("a", 1, 9, load_s=3)], 1, is_local)

    assert bar == Bar(0, "a", 1, 4, 9)


def test_stages_at_one_time_are_on_several_slots_and_endpoints_below() -> None:
    records = [record("far", 0, 2), record("b", 0, 3), record("c", 3, 5), record("a", 0, 9)]

    lanes = {bar.label: bar.lane for bar in bars_of_records(records, 2, is_local)}

    assert lanes == {"b": 0, "c": 0, "a": 1, "far": 2}


@pytest.mark.parametrize("end_s", [4, 40])
def test_a_batch_that_went_on_is_drawn_behind_what_went_before(end_s: float) -> None:
    records = [record("a", 0, 10), record("b", 10, 20), record("c", 0, end_s)]

    bars = bars_of_records(records, 1, is_local)

    assert [(bar.start_s, bar.end_s) for bar in bars] == [(0, 10), (10, 20), (20, 20 + end_s)]


def test_what_ends_before_the_one_before_it_is_of_another_run_though_a_slot_is_free() -> None:
    bars = bars_of_records([record("a", 0, 10), record("b", 0, 4)], 2, is_local)

    assert bars[1] == Bar(0, "b", 10, 10, 14)


def test_endpoints_are_told_by_experts_yaml_and_who_is_not_in_it_takes_a_slot(
    folder: Path,
) -> None:
    records = [record("far", 0, 2), record("gone", 0, 3)]

    bars = record_bars(records, load_experts(folder / "experts.yaml"))

    assert {bar.label: bar.lane for bar in bars} == {"gone": 0, "far": 1}


STAGES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=6)


@given(st.lists(STAGES, min_size=1, max_size=4))
def test_stages_that_slots_can_have_had_find_room_on_them(
    slots: list[list[tuple[int, int]]],
) -> None:
    records: list[StageRecord] = []
    for number, stages in enumerate(slots):
        now_s = 0
        for idle_s, busy_s in stages:
            records.append(record(f"{number}", now_s + idle_s, now_s + idle_s + busy_s))
            now_s += idle_s + busy_s
    records.sort(key=lambda record: record.end_s)

    bars = bars_of_records(records, len(slots), is_local)

    assert [bar.end_s for bar in bars] == [record.end_s for record in records]
    for lane in range(len(slots)):
        here = sorted((bar.start_s, bar.end_s) for bar in bars if bar.lane == lane)
        assert all(before[1] <= after[0] for before, after in pairwise(here))
