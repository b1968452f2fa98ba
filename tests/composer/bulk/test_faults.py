"""Batches go on whatever becomes of the processes that experts run in."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from composer.bulk import BatchProgress
from tests.composer.bulk.conftest import EXPERTS, ONE, Bulk, registry

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


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
