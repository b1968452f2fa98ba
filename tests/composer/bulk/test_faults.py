"""Batches go on whatever becomes of the processes that experts run in, and of their own."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
import pytest

from composer.bulk import BatchProgress
from composer.bulk.driver import WINDOW
from tests.composer.bulk.conftest import EXPERTS, ONE, PANEL, Bulk, registry

pytestmark = pytest.mark.ray

T = TypeVar("T")

PATIENCE_S = 120.0
"""For what takes seconds, on a machine that others keep busy."""


@pytest.mark.usefixtures("local_ray")
async def test_runners_that_are_killed_cost_what_they_were_saying_and_no_answer(bulk: Bulk) -> None:
    slow: dict[str, Any] = {"token_s": 0.02}
    text = registry(
        {"main": ONE},
        experts=dict.fromkeys(EXPERTS, slow),
        pool={"max_attempts": 5, "warm_spares": 0},
        runner="ray",
    )
    lines = [{"id": f"q{i}", "prompt": "why " * (1 + i % 29)} for i in range(100)]
    killed: list[int] = []

    async with bulk.composer(text) as composer:

        def kill(progress: BatchProgress) -> None:
            busy = [r.pid for r in composer.pool.runners() if {*r.experts} & {*progress.experts}]
            if progress.n_done in (10, 40, 70):
                assert busy[0] is not None
                killed.append(busy[0])
                os.kill(busy[0], signal.SIGKILL)

        path, run = bulk.write(lines), bulk.folder / "run"
        report = await composer.batch(path, "main", run, on_progress=kill)

    assert len(set(killed)) == 3
    assert (report.n_answered, report.n_failed) == (100, 0)
    assert report.loads == len(EXPERTS) + 3
    assert len(bulk.asked()) == len(set(bulk.asked())) == 100
    assert sorted(r["id"] for r in bulk.results()) == sorted(line["id"] for line in lines)


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that may not be there yet, but for one that is being written."""
    text = path.read_text("utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def asked(bulk: Bulk) -> set[str]:
    """The requests whose outcomes are in the journal of a run that is being written."""
    lines = [json.loads(line) for line in whole_lines(bulk.folder / "run" / "journal.jsonl")]
    return {line["outcome"]["request_id"] for line in lines if "outcome" in line}


def until(found: Callable[[], T | None]) -> T:
    """Wait for something, and return it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        if (value := found()) is not None:
            return value
        time.sleep(0.01)
    raise TimeoutError


def at_least(n: int, bulk: Bulk) -> set[str] | None:
    """What was asked, once it is as much."""
    return found if len(found := asked(bulk)) >= n else None


def is_runner(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == ["ray::_Host"]
    except psutil.Error:
        return False


class Driver:
    """`composer batch` in a process of its own, with a Ray of its own."""

    def __init__(self, bulk: Bulk, name: str) -> None:
        self._out, self._err = bulk.folder / f"{name}.out", bulk.folder / f"{name}.err"
        places = (str(bulk.folder / "in.jsonl"), "--out", str(bulk.folder / "run"))
        options = ("--experts", str(bulk.folder / "experts.yaml"), "-c", "main", "-v", "-o", "json")
        # Its log is broken into lines at COLUMNS.
        env = os.environ | {"XDG_CACHE_HOME": str(bulk.folder), "COLUMNS": "200"}
        env.pop("RAY_ADDRESS", None)
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            command = [sys.executable, "-m", "composer", "batch", *places, *options]
            self._process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def until(self, found: Callable[[], T | None]) -> T:
        """Wait for something to come of it, and return that."""

        def found_meanwhile() -> T | None:
            assert self._process.poll() is None, self._err.read_text("utf-8")
            return found()

        return until(found_meanwhile)

    def kill_runner(self) -> None:
        """Kill the process that an expert runs in."""
        runner = self.until(lambda: next(filter(is_runner, self._below()), None))
        runner.kill()
        until(lambda: None if is_runner(runner) else runner)

    def kill(self) -> None:
        """Kill it and wait until its runners have followed; of Ray, some would stay for longer."""
        below = self._below()
        self._process.kill()
        self._process.wait()
        until(lambda: None if any(map(is_runner, below)) else below)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def report(self) -> dict[str, Any]:
        """What it says when it has come to its end."""
        assert self._process.wait(PATIENCE_S) == 0, self._err.read_text("utf-8")
        return json.loads(self._out.read_text("utf-8"))

    def logged(self, what: str) -> list[str]:
        """The experts of whose engines its log says this."""
        return re.findall(rf"(\w+)-\w+{what}", self._err.read_text("utf-8"))

    def _below(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)


def test_a_batch_survives_the_kills_of_three_runners_and_then_of_its_own_process(
    bulk: Bulk,
) -> None:
    slow = {"token_s": 0.05, "log": str(bulk.folder / "begun")}
    pool = {"max_attempts": 5, "warm_spares": 0}
    text = registry({"main": PANEL}, experts=dict.fromkeys(EXPERTS, slow), pool=pool, runner="ray")
    (bulk.folder / "experts.yaml").write_text(text, "utf-8")
    lines = [{"id": f"q{i}", "prompt": "why " * (1 + i % 29)} for i in range(500)]
    bulk.write(lines)
    rng = random.Random(0)
    # All that the third runner was asked is less than WINDOW, so the fourth is up at the last one.
    *kills, end = (rng.randrange(at, at + 200) for at in (50, 350, 650, 850 + WINDOW))
    lost: list[set[str]] = []

    with Driver(bulk, "first") as first:
        for n_asked in kills:
            known = first.until(partial(at_least, n_asked, bulk))
            first.kill_runner()
            lost.append({*whole_lines(bulk.folder / "begun")} - known)
        first.until(partial(at_least, end, bulk))
        first.kill()
    n_written = len(whole_lines(bulk.folder / "run" / "results.jsonl"))
    known, begun = asked(bulk), whole_lines(bulk.folder / "begun")
    lost.append({*begun} - known)
    with Driver(bulk, "second") as second:
        report = second.report()

    assert 0 < n_written < 500
    assert (report["answered"], report["failed"]) == (500, 0)
    assert sorted(r["id"] for r in bulk.results()) == sorted(line["id"] for line in lines)
    assert not any("error" in r or r["failures"] for r in bulk.results())
    assert len(bulk.asked()) == len(set(bulk.asked())) == 1500

    ever = whole_lines(bulk.folder / "begun")
    again = ever[len(begun) :]
    assert not known & {*again}
    assert {*ever} == {*bulk.asked()}
    times = Counter(ever)
    assert all(n <= 1 + sum(request in some for some in lost) for request, n in times.items())
    assert 1500 < len(ever) <= 1500 + 4 * WINDOW

    up, replaced = first.logged(" is up in "), first.logged(": .*; its runner is replaced")
    asked_of = [{request.rpartition("/")[2] for request in some} for some in (begun, again)]
    assert {*up} == asked_of[0]
    assert 1 <= len(replaced) <= 3
    assert Counter(up) == Counter(asked_of[0]) + Counter(replaced)
    assert report["loads"] == len(asked_of[1])
    assert len(up) + report["loads"] <= len(EXPERTS) + len(replaced) + 1
