from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from composer.pool.fleet import Fleet
from composer.pool.footprint import Footprints
from composer.pool.job import Job
from composer.pool.queues import EngineQueue, EngineQueues
from composer.pool.waits import slot_wait_s
from composer.types import Message, Request

if TYPE_CHECKING:
    from tests.composer.pool.conftest import MakeRegistry

NAMES = "abc"


@pytest.fixture
def queues(scripted: MakeRegistry, tmp_path: Path) -> EngineQueues:
    """Of three engines that nothing waits for yet."""
    registry = scripted({name: {"text": name} for name in NAMES})
    return EngineQueues(registry, Fleet(registry.pool, Footprints(tmp_path / "footprints.json")))


def fill(queue: EngineQueue, *, waiting: int = 0, running: int = 0, pace_s: float = 0.0) -> None:
    """Have so many requests wait and run."""
    expert = queue.spec.experts[0]
    for number in range(waiting + running):
        request = Request(f"{expert}{number}", expert, (Message("user", "why?"),))
        job = Job(request, asyncio.Queue(), stream=False)
        if number < waiting:
            queue.waiting.append(job)
        else:
            queue.running[request.id] = job
    queue.pace_s = pace_s


def wait_s(queues: EngineQueues, *nodes: str | None, slots: dict[str, int] | None = None) -> float:
    """What a request to engine c waits, beside a and b on these machines; a load takes 10 s."""
    others = [(queues.of(name), node) for name, node in zip(NAMES, nodes, strict=False)]
    return slot_wait_s(queues.of("c"), others, slots or {"here": 1}, lambda queue: 10.0)


def test_with_a_slot_free_a_request_does_not_wait(queues: EngineQueues) -> None:
    assert wait_s(queues) == 0.0
    fill(queues.of("a"), running=3, pace_s=1.0)
    assert wait_s(queues, "here", slots={"here": 2}) == 0.0
    assert wait_s(queues, "elsewhere") == 0.0


def test_an_engine_that_generates_takes_requests_in_at_once(queues: EngineQueues) -> None:
    fill(queues.of("a"), running=3, pace_s=1.0)
    fill(queues.of("c"), running=1)
    assert wait_s(queues, "here") == 0.0


def test_else_it_waits_for_the_load_and_the_open_requests_of_those_ahead(
    queues: EngineQueues,
) -> None:
    fill(queues.of("a"), waiting=1, running=2, pace_s=0.5)
    fill(queues.of("b"), waiting=4, pace_s=0.25)
    assert wait_s(queues, "here", None) == (10.0 + 3 * 0.5) + (10.0 + 4 * 0.25)


def test_an_engine_that_nobody_asks_is_not_ahead(queues: EngineQueues) -> None:
    fill(queues.of("a"), running=2, pace_s=0.5)
    assert wait_s(queues, "here", None) == wait_s(queues, "here") == 11.0


def test_what_is_ahead_is_shared_out_among_the_slots(queues: EngineQueues) -> None:
    for name in "ab":
        fill(queues.of(name), running=2, pace_s=0.5)
    assert wait_s(queues, "left", "right", slots={"left": 1, "right": 1}) == 11.0


def test_without_a_machine_it_waits_for_all_that_waits(queues: EngineQueues) -> None:
    fill(queues.of("a"), waiting=2, pace_s=0.5)
    assert slot_wait_s(queues.of("c"), [(queues.of("a"), None)], {}, lambda queue: 0.0) == 1.0
