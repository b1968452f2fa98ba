import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from composer.cli import app

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "{prompt}, says {expert}"}}
  bob: {engine: scripted, engine_args: {text: "{prompt}, says {expert}"}}
  cut: {engine: scripted, engine_args: {text: "one two three four", failures: {"": cut}}}
compositions:
  auto: {router: {name: fixed, expert: bob}}
  pair: {router: {name: random}, choose: {k: 2}, aggregator: {name: vote, answer_type: text}}
  broken: {router: {name: fixed, expert: cut}}
"""
"""Two experts that repeat what they hear, and one that stops half-way."""

MUTE = """
experts:
  mute: {engine: scripted, engine_args: {failures: {"": refused}}}
compositions:
  auto: {router: {name: random}}
"""
"""One expert, which says nothing."""


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    return path


def ask(experts: Path, *args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["ask", "--experts", str(experts), *args], input=stdin)


def test_the_words_of_the_command_line_are_one_prompt(experts: Path) -> None:
    result = ask(experts, "Hello", "there")

    assert (result.exit_code, result.stdout) == (0, "Hello there, says bob\n")


@pytest.mark.parametrize("words", [[], ["-"]])
def test_without_words_or_for_a_dash_the_prompt_is_stdin(experts: Path, words: list[str]) -> None:
    result = ask(experts, *words, stdin="Grüße\n".encode())

    assert result.stdout == "Grüße, says bob\n"


def test_an_expert_can_be_asked_by_its_name(experts: Path) -> None:
    assert ask(experts, "-c", "ada", "Hi").stdout == "Hi, says ada\n"


def test_the_experts_come_from_the_environment_where_no_option_names_them(experts: Path) -> None:
    result = CliRunner().invoke(app, ["ask", "Hi"], env={"COMPOSER_EXPERTS": str(experts)})

    assert result.stdout == "Hi, says bob\n"


def test_json_is_one_object_with_everything(experts: Path) -> None:
    result = ask(experts, "--output", "json", "Hi")

    value = json.loads(result.stdout)
    assert (value["answer"], value["expert"]) == ("Hi, says bob", "bob")
    assert value["selection"]["choices"][0]["expert"] == "bob"
    assert [c["expert"] for c in value["completions"]] == ["bob"]
    assert (value["asked"], value["saved"]) == (["bob"], [])
    assert value["trace"][0]["name"] == "answer"


def test_k_overrides_the_composition(experts: Path) -> None:
    result = ask(experts, "-c", "pair", "--k", "1", "--output", "json", "Hi")

    assert len(json.loads(result.stdout)["selection"]["choices"]) == 1


def test_the_answer_type_is_how_a_vote_reads(experts: Path) -> None:
    result = ask(experts, "-c", "pair", "--answer-type", "number", "--output", "json", "It is 7")

    assert json.loads(result.stdout)["details"]["answer_type"] == "number"


def test_a_system_message_goes_before_the_question(experts: Path) -> None:
    plain = json.loads(ask(experts, "--output", "json", "Hi").stdout)
    result = ask(experts, "--system", "Be brief please", "--output", "json", "Hi")

    assert json.loads(result.stdout)["prompt_tokens"] == plain["prompt_tokens"] + 3


def test_evidence_goes_to_stderr_and_the_answer_alone_to_stdout(experts: Path) -> None:
    result = ask(experts, "--explain", "Hi")

    assert result.stdout == "Hi, says bob\n"
    assert "the configuration names 'bob' for every query" in result.stderr
    assert "aggregator best" in result.stderr


def test_failures_are_part_of_the_evidence(experts: Path) -> None:
    result = ask(experts, "-c", "broken", "--explain", "Hi")

    assert result.exit_code == 0
    assert "failed: cut (unavailable)" in result.stderr


def test_dropped_text_never_reaches_a_pipe(experts: Path) -> None:
    result = ask(experts, "-c", "broken", "--stream", "Hi")

    assert result.stdout == "Hi, says ada\n"


def test_nobody_answering_is_one_line(experts: Path) -> None:
    experts.write_text(MUTE, encoding="utf-8")

    result = ask(experts, "Hi")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")


def test_verbose_logs_to_stderr(experts: Path) -> None:
    result = ask(experts, "-v", "Hi")

    assert result.stdout == "Hi, says bob\n"
    assert "is up in" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_the_text_as_it_comes_and_a_new_line_at_a_restart(experts: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "composer", "ask", "--experts", str(experts), "-c", "broken"]
    with subprocess.Popen(
        [*command, "Hi"], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        _, err = process.communicate(timeout=60)
    shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    os.close(ours)

    # Cut half-way twice, since a request is tried twice; then another expert answers.
    assert shown == "one two\none two\nHi, says ada\n"
    assert err.decode().count("starting over: ") == 2


def test_a_closed_pipe_is_quiet(experts: Path) -> None:
    command = [sys.executable, "-m", "composer", "ask", "--experts", str(experts), "Hi"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writing)

    assert done.stderr == b""


def test_help_comes_without_what_answers() -> None:
    heavy = "{'numpy', 'pydantic', 'httpx', 'ray', 'torch', 'rich.console', 'huggingface_hub'}"
    code = f"import sys, composer.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
