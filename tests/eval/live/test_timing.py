from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.live.timing import Timing


class Meter:
    """A clock and a count of loads that the test moves on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.loads = 0

    def timing(self, folder: Path) -> Timing:
        return Timing(folder, lambda: self.loads, lambda: self.seconds)

    def pass_by(self, seconds: float, loads: int) -> None:
        self.seconds += seconds
        self.loads += loads


def test_each_step_is_kept_with_its_seconds_and_loads_and_their_sums(tmp_path: Path) -> None:
    meter = Meter()
    timing = meter.timing(tmp_path)
    for name, seconds, loads in (("experts", 4.0, 3), ("panel", 2.0, 1)):
        with timing.step(name):
            meter.pass_by(seconds, loads)

    assert json.loads((tmp_path / "timing.json").read_text()) == {
        "seconds": 6.0,
        "loads": 4,
        "steps": [
            {"run": 1, "step": "experts", "seconds": 4.0, "loads": 3},
            {"run": 1, "step": "panel", "seconds": 2.0, "loads": 1},
        ],
    }


def test_a_step_that_ends_early_is_kept_and_what_a_later_run_takes_is_added(
    tmp_path: Path,
) -> None:
    meter = Meter()

    def end_early() -> None:
        with meter.timing(tmp_path).step("experts"):
            meter.pass_by(1.0, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end_early()
    again = meter.timing(tmp_path)
    with again.step("experts"):
        meter.pass_by(2.0, 2)

    assert [(step["run"], step["loads"]) for step in again.to_json()["steps"]] == [(1, 1), (2, 2)]
    assert (again.to_json()["seconds"], again.to_json()["loads"]) == (3.0, 3)
