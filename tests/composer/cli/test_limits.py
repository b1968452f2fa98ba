import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from composer.cli import app

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "Hi"}, sampling: {max_tokens: 100}}
  bob: {engine: scripted, engine_args: {text: "Hi"}, sampling: {max_tokens: 100}}
  eve: {engine: scripted, engine_args: {text: "Hi"}, sampling: {max_tokens: 100}}
compositions:
  auto: {router: {name: random}}
  panel: {router: {name: random}, choose: {k: 2}, aggregator: {name: synthesis, by: bob}}
pool: {memory_gib: 2, warm_spares: 0}
"""
PRICES = {"ada": 10_000, "bob": 20_000, "eve": 40_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty questions, and experts of 1, 2 and 4 dollars an answer."""
    text = EXPERTS
    for name, usd in PRICES.items():
        text = text.replace(
            f"{name}: {{engine", f"{name}: {{price: {{output_usd_per_mtok: {usd}}}, engine"
        )
    (tmp_path / "experts.yaml").write_text(text, "utf-8")
    lines = [json.dumps({"id": f"q{i}", "prompt": f"why {i}?"}) for i in range(30)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), "utf-8")
    return tmp_path


def invoke(folder: Path, command: str, *args: str) -> Result:
    env = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COMPOSER_EXPERTS": str(folder / "experts.yaml"),
    }
    out = ["--out", str(folder / "run")] if command == "batch" else []
    return CliRunner().invoke(app, [command, str(folder / "in.jsonl"), *out, *args], env=env)


def joint(folder: Path, command: str, *args: str) -> dict[str, Any]:
    return json.loads(invoke(folder, command, *args, "--output", "json").stdout)["joint"]


@pytest.mark.parametrize("command", ["batch", "plan"])
def test_a_budget_says_what_is_expected_and_what_is_given_up(folder: Path, command: str) -> None:
    said = invoke(folder, command, "--budget-usd", "45").stdout.splitlines()

    (line,) = [line for line in said if line.startswith("budget: ")]
    assert " expected at " in line
    assert "quality per USD (the cost_weight), within 45 USD in all; at most " in line
    (line,) = [line for line in said if line.startswith("predicted quality: ")]
    assert line.endswith(" given up")
    assert not any("least share" in line for line in said)


@pytest.mark.parametrize("command", ["batch", "plan"])
def test_a_share_says_who_is_left_out(folder: Path, command: str) -> None:
    said = invoke(folder, command, "--min-share", "0.3").stdout

    assert "left out at a least share of 0.3: " in said
    assert "of 30 choices)" in said


def test_a_share_that_leaves_nobody_out_says_so(folder: Path) -> None:
    said = invoke(folder, "plan", "--min-share", "0.01").stdout

    assert "a least share of 0.01 leaves nobody out" in said


def test_a_plan_holds_what_the_batch_does(folder: Path) -> None:
    options = ["--budget-tokens", "3200", "--min-share", "0.1"]

    planned = joint(folder, "plan", *options)

    assert planned["spending"]["budget"] == {"kind": "tokens", "amount": 3200}
    assert planned["min_share"] == 0.1
    assert planned == joint(folder, "batch", *options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--budget-usd", "1", "--budget-tokens", "1"), "either --budget-usd or --budget-tokens"),
        (("--budget-usd", "-1"), "the budget's amount is -1.0; give a number from 0"),
        (("--budget-usd", "29"), "within 29 USD in all; give at least 30"),
        (("--min-share", "2"), "min_share is 2.0; give a number from 0 to 1"),
        (("--min-share", "1"), "every expert is rare: "),
        (("-c", "panel", "--budget-usd", "99"), "composition 'panel' chooses 2; set choose.k to 1"),
    ],
)
@pytest.mark.parametrize("command", ["batch", "plan"])
def test_limits_that_cannot_be_kept_are_one_line(
    folder: Path, command: str, options: tuple[str, ...], why: str
) -> None:
    result = invoke(folder, command, *options)

    (line,) = [line for line in result.stderr.splitlines() if "routed" not in line]
    assert (result.exit_code, result.stdout) == (1, "")
    assert line.startswith("error: ")
    assert why in line
