import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from composer.cli import app

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {load_failure: "nobody may ask it"}}
  bob: {engine: scripted, engine_args: {load_failure: "nobody may ask it"}}
compositions:
  auto: {router: {name: fixed, expert: bob}}
"""
"""Two experts that fail if they are asked at all."""


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    path = tmp_path / "experts.yaml"
    path.write_text(EXPERTS, encoding="utf-8")
    return path


def route(experts: Path, *args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["route", "--experts", str(experts), *args], input=stdin)


def test_a_route_ranks_the_experts_and_asks_none(experts: Path) -> None:
    result = route(experts, "Hello")

    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["1", "bob", "1.000", "yes"] in rows
    assert ["2", "ada", "0.000"] in rows


def test_evidence_is_shown_when_asked_for(experts: Path) -> None:
    evidence = "the configuration names 'bob'"

    assert evidence not in route(experts, "Hello").stdout
    assert evidence in route(experts, "--explain", "Hello").stdout


def test_a_route_as_json_holds_every_score(experts: Path) -> None:
    value = json.loads(route(experts, "--output", "json", "Hello").stdout)

    assert value["scores"] == {"ada": 0.0, "bob": 1.0}
    assert value["ranking"] == ["bob", "ada"]


def test_the_prompt_may_come_from_stdin(experts: Path) -> None:
    assert route(experts, stdin=b"Hello").exit_code == 0
