"""`python -m eval simulate`: tables, JSON and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from composer.errors import ConfigError
from eval.__main__ import app
from eval.simulate.hardware import make_hardware
from eval.simulate.simulator import Outcome, simulate
from eval.simulate.timeline import draw_timeline, spent
from eval.simulate.trace import make_trace


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, ["simulate", *arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


@pytest.fixture
def outcomes() -> tuple[Outcome, ...]:
    """Twenty queries to two of four experts, in two slots."""
    trace = make_trace(queries=20, experts=4, distinct=2)
    hardware = make_hardware(trace.experts, memory="2", slots=2)
    return simulate(trace, hardware, policies=["lru"], windows=[8])


def test_a_table_has_a_row_for_each_order_and_policy() -> None:
    text = run("--queries", "50", "--experts", "4", "--policy", "lru", "--policy", "belady",
               "--window", "8", "--window", "16")  # fmt: skip
    assert "50 queries, 150 requests, 4 experts, memory 1" in text
    assert text.count("lru") == 3
    assert text.count("belady") == 4
    assert "unknown" in text


def test_json_holds_what_the_table_shows(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text('{"a": {"memory_gib": 1}, "b": {"memory_gib": 2}}', encoding="utf-8")
    trace = tmp_path / "trace.jsonl"
    lines = [{"query": f"q{n}", "expert": name} for n, name in enumerate("abab")]
    trace.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    text = run(str(trace), "--figures", str(figures), "--memory", "2GiB", "--policy", "lru",
               "--load-s", "5", "--prompt-tokens", "0", "--completion-tokens", "30",
               "--tokens-per-s", "10", "--output", "json")  # fmt: skip
    assert json.loads(text) == {
        "queries": 4,
        "requests": 4,
        "memory": "2GiB",
        "outcomes": [
            {
                "order": "arrival", "policy": "lru", "loads": 4, "loads_ratio": 2.0,
                "hit_rate": 0.0, "loaded_bytes": 6 << 30, "seconds": 32.0, "load_seconds": 20.0,
                "seconds_ratio": 32 / 22,
            },
            {
                "order": "grouped", "policy": "belady", "loads": 2, "loads_ratio": 1.0,
                "hit_rate": 0.5, "loaded_bytes": 3 << 30, "seconds": 22.0, "load_seconds": 10.0,
                "seconds_ratio": 1.0,
            },
        ],
    }  # fmt: skip


def test_where_nothing_takes_time_there_is_no_ratio_of_seconds() -> None:
    found = json.loads(run("--load-s", "0", "--prompt-tokens", "0", "--completion-tokens", "0",
                           "--output", "json"))  # fmt: skip
    assert {row["seconds_ratio"] for row in found["outcomes"]} == {None}
    assert "none" in run("--load-s", "0", "--prompt-tokens", "0", "--completion-tokens", "0")


def test_an_aggregator_outside_is_one_more_expert_and_one_more_load() -> None:
    found = json.loads(run("--aggregator", "outside", "--output", "json"))
    assert found["requests"] == 4000
    assert found["outcomes"][-1]["loads"] == 17


def test_a_policy_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^no policy 'mru'; "):
        run("--policy", "mru")


def test_shares_of_time_are_what_the_schedule_says() -> None:
    trace = make_trace(queries=1, experts=1, distinct=1, prompt_tokens=0, completion_tokens=30)
    hardware = make_hardware(trace.experts, load_s=5.0, completion_tokens_per_s=10.0)
    (outcome,) = simulate(trace, hardware, policies=[])
    waiting, working = spent(outcome, 0, np.array([0.0, 4.0, 6.0, 8.0, 10.0]))
    assert list(waiting) == [1.0, 0.5, 0.0, 0.0]
    assert list(working) == [0.0, 0.5, 1.0, 0.0]


def test_shares_of_time_add_up_to_what_was_spent(outcomes: tuple[Outcome, ...]) -> None:
    for outcome in outcomes:
        edges = np.linspace(0.0, outcome.seconds, 38)
        shares = [spent(outcome, slot, edges) for slot in range(2)]
        waiting, working = (sum(s[i].sum() for s in shares) * edges[1] for i in range(2))
        assert waiting == pytest.approx(outcome.load_seconds)
        assert working == pytest.approx(40 * (200 / 5000 + 100 / 500))


def test_a_slot_that_does_nothing_spends_nothing(outcomes: tuple[Outcome, ...]) -> None:
    waiting, working = spent(outcomes[0], 5, np.array([0.0, 1.0, 2.0]))
    assert list(waiting) == list(working) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "begins"), [("t.png", b"\x89PNG"), ("t.html", b"<!doctype html>")]
)
def test_a_timeline_is_drawn(tmp_path: Path, name: str, begins: bytes) -> None:
    run("--queries", "20", "--experts", "3", "--slots", "2", "--memory", "2", "--window", "8",
        "--timeline", str(tmp_path / name))  # fmt: skip
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_timeline_of_no_time_at_all_is_drawn(tmp_path: Path) -> None:
    run("--load-s", "0", "--prompt-tokens", "0", "--completion-tokens", "0",
        "--timeline", str(tmp_path / "t.png"))  # fmt: skip
    assert (tmp_path / "t.png").exists()


@pytest.mark.parametrize("name", ["t.gif", "nowhere/t.png"])
def test_a_timeline_that_cannot_be_drawn_is_refused(
    tmp_path: Path, name: str, outcomes: tuple[Outcome, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"^cannot draw '.*'; name a file that ends in one of"):
        draw_timeline(tmp_path / name, outcomes, "a title")
