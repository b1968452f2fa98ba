import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from composer.bulk.progress import BatchProgress
from composer.cli import app
from composer.cli.batch import duration, make_teller

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "Hi, says ada", failures: {"17": refused}}}
  bob:
    engine: scripted
    engine_args: {text: "Hi, says bob", failures: {"17": refused}, first_token_s: BOB_S}
compositions:
  auto: {router: {name: fixed, expert: ada}, choose: {k: 1}}
  both: {router: {name: round_robin}}
  panel: {router: {name: random}, choose: {k: 2}, aggregator: {name: synthesis, by: bob}}
  thrifty: {router: {name: random}, choose: {load_weight: 1}}
  picky: {router: {name: random}, choose: {threshold: 1, abstain: true}}
pool: {memory_gib: 2, warm_spares: 0}
"""
OPENAI: dict[str, Any] = {
    "custom_id": "theirs",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Blue?"}],
        "temperature": 0,
        "logprobs": True,
    },
}
PLAIN = {"id": "ours", "prompt": "Red?"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two experts that answer at once, and a line of each form."""
    (tmp_path / "experts.yaml").write_text(EXPERTS.replace("BOB_S", "0"), "utf-8")
    write(tmp_path, OPENAI, PLAIN)
    return tmp_path


def write(folder: Path, *lines: object) -> None:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "in.jsonl").write_text("".join(line + "\n" for line in text), "utf-8")


def arguments(folder: Path, *args: str) -> list[str]:
    places = ["--out", str(folder / "run"), "--experts", str(folder / "experts.yaml")]
    return ["batch", str(folder / "in.jsonl"), *places, *args]


def run(folder: Path, *args: str, **env: str) -> Result:
    env |= {"XDG_CACHE_HOME": str(folder / "cache")}
    return CliRunner().invoke(app, arguments(folder, *args), env=env)


def complaint(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    text = (folder / "run" / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def asked(folder: Path) -> list[str]:
    """The requests whose outcomes the journal has."""
    return [
        line["outcome"]["request_id"]
        for line in lines(folder, "journal.jsonl")
        if "outcome" in line
    ]


def test_each_line_is_answered_in_its_own_form(folder: Path) -> None:
    result = run(folder)

    found = {line.get("custom_id") or line["id"]: line for line in lines(folder, "results.jsonl")}
    assert result.exit_code == 0
    assert found["ours"]["answer"] == "Hi, says ada"
    body = found["theirs"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "Hi, says ada"


def test_what_came_of_it_is_a_table_with_the_place_of_the_results(folder: Path) -> None:
    out = run(folder, "-c", "both").stdout.splitlines()

    rows = [line.split() for line in out]
    assert ["queries", "answered", "failed", "rejected", "loads", "tokens", "seconds"] in rows
    assert ["2", "2", "0", "0", "2", "6"] in [row[:-1] for row in rows]
    assert out[-1] == f"results are in {folder / 'run' / 'results.jsonl'}"


def test_as_json_it_holds_the_same_and_the_settings_that_were_ignored(folder: Path) -> None:
    said = json.loads(run(folder, "--output", "json").stdout)

    assert said.pop("seconds") > 0
    assert said == {
        "queries": 2,
        "answered": 2,
        "failed": 0,
        "rejected": 0,
        "loads": 1,
        "tokens": 6,
        "saving": None,
        "joint": None,
        "ignored": {"logprobs": 1},
        "results": str(folder / "run" / "results.jsonl"),
        "rejects": str(folder / "run" / "rejects.jsonl"),
    }


def test_loads_that_a_load_weight_spares_are_told(folder: Path) -> None:
    write(folder, *({"id": f"q{n}", "prompt": f"Why {n}?"} for n in range(9)))

    told = run(folder, "-c", "thrifty").stdout
    said = json.loads(run(folder, "-c", "thrifty", "--output", "json").stdout)

    (expert,) = said["saving"]["spared"]
    assert f"load_weight spares 10.0 s of loading {expert}, for 0." in told


def test_ignored_settings_are_a_warning(folder: Path) -> None:
    assert "warning: 'logprobs' is ignored (lines with it: 1)" in run(folder).stderr


def test_rejects_are_reported_with_their_numbers_and_the_rest_is_answered(folder: Path) -> None:
    write(folder, PLAIN, "{", {"id": "empty"}, {"id": "more", "prompt": "Green?"})

    result = run(folder)

    assert result.exit_code == 0
    assert "warning: lines rejected: 2; " in result.stderr
    assert [reject["line"] for reject in lines(folder, "rejects.jsonl")] == [2, 3]
    assert [line["id"] for line in lines(folder, "results.jsonl")] == ["ours", "more"]


def test_strictly_a_reject_is_one_line_and_nothing_is_asked(folder: Path) -> None:
    write(folder, PLAIN, "{")

    assert f"{folder / 'in.jsonl'}:2: is not JSON" in complaint(run(folder, "--strict"))
    assert not (folder / "run").exists()


def test_queries_that_fail_are_counted_and_the_command_is_done(folder: Path) -> None:
    write(folder, PLAIN, {"id": "sum", "prompt": "17 + 25?"})

    result = run(folder, "-c", "ada")

    assert result.exit_code == 0
    assert "warning: failed: 1 of 2; " in result.stderr
    assert {"ours", "sum"} == {line["id"] for line in lines(folder, "results.jsonl")}


def test_without_any_answer_the_command_has_failed(folder: Path) -> None:
    result = run(folder, "-c", "picky", "--output", "json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"] == 2
    assert result.stderr.splitlines()[-1].startswith("error: no query was answered; ")


def test_the_same_command_again_asks_nothing(folder: Path) -> None:
    run(folder, "-c", "panel")
    before = asked(folder)

    said = json.loads(run(folder, "-c", "panel", "--output", "json").stdout)

    assert (said["answered"], said["loads"], said["tokens"]) == (2, 0, 0)
    assert asked(folder) == before


def test_an_interrupted_batch_goes_on_without_asking_twice(folder: Path) -> None:
    (folder / "experts.yaml").write_text(EXPERTS.replace("BOB_S", "1.5"), "utf-8")
    write(folder, *({"id": f"q{n}", "prompt": f"Why {n}?"} for n in range(8)))
    command = [sys.executable, "-m", "composer", *arguments(folder, "-c", "both")]
    env = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stderr is not None
        while b": bob" not in (line := process.stderr.readline()):
            assert line, "the command ended before bob's turn"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    before = asked(folder)

    again = run(folder, "-c", "both", "--output", "json")

    assert (process.returncode, out) == (130, b"")
    assert err.splitlines()[-1] == b"ended early: the same command goes on from here"
    assert len(before) == 4
    assert json.loads(again.stdout)["answered"] == 8
    assert asked(folder)[:4] == before
    assert len(set(asked(folder))) == len(asked(folder)) == 8


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_stages_are_drawn_as_they_went(folder: Path, name: str, begins: bytes) -> None:
    result = run(folder, "-c", "panel", "--picture", str(folder / name))

    assert result.exit_code == 0
    assert (folder / name).read_bytes().startswith(begins)


def test_without_a_stage_no_picture_is_drawn_and_it_is_said(folder: Path) -> None:
    result = run(folder, "-c", "picky", "--picture", str(folder / "a.png"))

    assert "a.png is not drawn: no engine was asked" in result.stderr
    assert not (folder / "a.png").exists()


@pytest.mark.parametrize("name", ["a.gif", "nowhere/a.png"])
def test_a_picture_that_cannot_be_drawn_is_one_line_before_anything_is_asked(
    folder: Path, name: str
) -> None:
    said = complaint(run(folder, "--picture", str(folder / name)))

    assert "name a file that ends in .png or .svg, in a folder that exists" in said
    assert not (folder / "run").exists()


def test_without_matplotlib_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    said = complaint(run(folder, "--picture", str(folder / "a.png")))

    assert "install multi-llm-composer[eval], or leave out --picture" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-c", "pannel"], "no composition 'pannel'; did you mean 'panel'?"),
        (["--experts", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_argument_is_one_line(folder: Path, args: list[str], said: str) -> None:
    assert said in complaint(run(folder, *args))


def test_a_file_without_queries_is_one_line(folder: Path) -> None:
    write(folder, "{")

    assert "has no query that can be answered: line 1: is not JSON" in complaint(run(folder))


def test_an_expert_larger_than_memory_is_refused_with_how_much(folder: Path) -> None:
    text = (folder / "experts.yaml").read_text("utf-8")
    (folder / "experts.yaml").write_text(text.replace("{text", "{memory_gib: 5, text"), "utf-8")

    result = run(folder)

    assert result.exit_code == 1
    assert "takes 5.00 GiB, 3.00 GiB more than" in result.stderr.splitlines()[-1]


def test_progress_is_told_in_lines_where_there_is_no_terminal(folder: Path) -> None:
    told = run(folder, "-c", "both").stderr.splitlines()

    assert told[0] == "2 of 2 routed"
    assert told[1].startswith(
        "0 of 2 done, stage 1: ada, requests 0 and 2 waiting, loads 0 and 2 to come, 0 tokens/s, "
    )


def test_progress_is_a_bar_on_a_terminal(folder: Path) -> None:
    result = run(folder, "-c", "both", FORCE_COLOR="1", COLUMNS="200")

    assert "2 of 2 routed" not in result.stderr
    assert "2/2" in result.stderr


ANSWERING = BatchProgress(
    "answer", 10, 3, 1, ("ada", "bob"), 2, 4, 5, completion_tokens=7, tokens_per_s=6.6, left_s=40.0
)


def test_a_line_of_progress_says_how_far_it_is_and_what_is_left() -> None:
    told: list[str] = []

    make_teller(told.append)(ANSWERING)

    assert told == [
        "3 of 10 done, 1 failed, stage 2: ada + bob, requests 0 and 0 waiting, "
        "loads 4 and 5 to come, 7 tokens/s, about 40 s left"
    ]


def test_progress_is_told_when_another_engine_has_its_turn_and_now_and_then() -> None:
    told: list[str] = []
    moments = [(0.0, "ada"), (4.9, "ada"), (5.1, "ada"), (5.2, "bob"), (5.3, "bob")]
    clock = {"now_s": 0.0}
    show = make_teller(told.append, lambda: clock["now_s"])

    for n_done, (clock["now_s"], expert) in enumerate(moments):
        show(replace(ANSWERING, n_done=n_done, experts=(expert,)))

    assert [line.split()[0] for line in told] == ["0", "2", "3"]
    assert told[1].endswith("about 35 s left")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5369, "89 min"), (11100, "3 h 5 min")],
)
def test_a_duration_is_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
