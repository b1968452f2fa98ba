"""A live evaluation, small: real specialists, by a router that was fitted on their outcomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from composer.assembly import compose
from composer.orchestrator import Composer
from composer.starter import OUTCOMES
from eval.live.folder import Options
from eval.live.run import LiveRun, run_live
from eval.tasks.registry import load_task
from eval.tasks.subset import limit

if TYPE_CHECKING:
    from composer.experts import Registry
    from composer.pool.pool import Pool

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.asyncio(loop_scope="session"),
]

QUESTIONS = 10


@pytest.fixture(scope="module")
def composer(starter: Registry, live_registry: Registry, live_pool: Pool) -> Composer:
    """What the shipped `auto` is, on engines that other tests use as well."""
    registry = replace(live_registry, compositions={"auto": starter.compositions["auto"]})
    return Composer(registry, compose(registry).compositions, pool=live_pool)


async def evaluate(composer: Composer, starter: Registry, folder: Path) -> LiveRun:
    task = limit(load_task("starter"), QUESTIONS)
    options = Options(only=tuple(starter.routed))
    return await run_live(composer, [task], ["auto"], folder, options, outcomes=OUTCOMES)


def told(folder: Path) -> list[str]:
    """What experts said, as it was kept."""
    journal = (folder / "experts" / "journal.jsonl").read_text("utf-8").splitlines()
    batch = (folder / "compositions" / "auto" / "results.jsonl").read_text("utf-8").splitlines()
    return [*journal, *batch]


async def test_specialists_that_are_routed_to_beat_every_single_expert_and_none_is_asked_twice(
    composer: Composer, starter: Registry, tmp_path: Path
) -> None:
    run = await evaluate(composer, starter, tmp_path / "run")
    said = told(tmp_path / "run")
    again = await evaluate(composer, starter, tmp_path / "run")

    accuracy = {row.method: row.accuracy for row in run.rows}
    assert accuracy["auto"] >= accuracy["best-single"] + 0.2
    assert accuracy["oracle"] >= accuracy["auto"]
    assert not run.silent
    assert not run.unanswered
    answers = [json.loads(line) for line in said if '"outcome"' in line]
    assert len(answers) == QUESTIONS * len(starter.routed)
    assert told(tmp_path / "run") == said
    assert again.as_json == run.as_json
