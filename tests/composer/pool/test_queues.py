from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.fleet import Fleet
from composer.pool.footprint import Footprints
from composer.pool.job import Job
from composer.pool.queues import FULL_BATCH, EngineQueue, EngineQueues
from composer.types import Message, Request

if TYPE_CHECKING:
    from tests.composer.pool.conftest import MakeRegistry


@pytest.fixture
def small(scripted: MakeRegistry) -> Registry:
    """An expert of which there may be three copies, with batches of two."""
    return with_copies(scripted({"a": {}, "b": {}}), replicas=3, engine_args={"max_num_seqs": 2})


def with_copies(registry: Registry, **fields: Any) -> Registry:
    first = registry.experts["a"].model_copy(update=fields)
    return Registry({**registry.experts, "a": first}, {}, registry.pool, registry.path)


def queues_of(registry: Registry, tmp_path: Path) -> EngineQueues:
    return EngineQueues(registry, Fleet(registry.pool, Footprints(tmp_path / "footprints.json")))


def wait(queue: EngineQueue) -> None:
    """Have one more request wait."""
    request = Request(f"q{queue.n_open}", "a", (Message("user", "why?"),))
    queue.waiting.append(Job(request, asyncio.Queue(), stream=False))


def given_to(queues: EngineQueues, n: int) -> list[int]:
    """The copies that n requests go to, one after the other."""
    copies: list[int] = []
    for _ in range(n):
        copies.append(queues.free_copy("a"))
        wait(queues.of("a", copies[-1]))
    return copies


def test_a_copy_is_begun_only_once_those_before_it_have_a_full_batch(
    small: Registry, tmp_path: Path
) -> None:
    assert given_to(queues_of(small, tmp_path), 6) == [0, 0, 1, 1, 2, 2]


def test_once_all_copies_are_full_the_one_with_the_fewest_requests_takes_the_next(
    small: Registry, tmp_path: Path
) -> None:
    queues = queues_of(small, tmp_path)
    given_to(queues, 6)
    assert given_to(queues, 4) == [0, 1, 2, 0]


def test_a_copy_that_was_begun_is_not_asked_while_those_before_it_have_room(
    small: Registry, tmp_path: Path
) -> None:
    queues = queues_of(small, tmp_path)
    given_to(queues, 3)
    queues.of("a").waiting.pop()
    queues.of("a", 1).waiting.clear()
    assert queues.free_copy("a") == 0


def test_requests_that_run_count_as_those_that_wait(small: Registry, tmp_path: Path) -> None:
    queues = queues_of(small, tmp_path)
    given_to(queues, 2)
    first = queues.of("a")
    first.running = {job.request.id: job for job in first.waiting}
    first.waiting.clear()
    assert queues.free_copy("a") == 1


def test_without_leave_there_is_one_copy_however_much_waits(
    scripted: MakeRegistry, tmp_path: Path
) -> None:
    assert set(given_to(queues_of(scripted({"a": {}}), tmp_path), 2 * FULL_BATCH + 1)) == {0}


def test_where_the_engine_does_not_say_a_batch_has_its_usual_size(
    scripted: MakeRegistry, tmp_path: Path
) -> None:
    queues = queues_of(with_copies(scripted({"a": {}}), replicas=2), tmp_path)
    assert given_to(queues, FULL_BATCH + 1) == [0] * FULL_BATCH + [1]


def test_each_copy_of_each_engine_has_one_queue(small: Registry, tmp_path: Path) -> None:
    queues = queues_of(small, tmp_path)
    first, copy, other = queues.of("a"), queues.of("a", 1), queues.of("b")
    assert queues.of("a", 0) is first
    assert queues.of("a", 1) is copy
    assert list(queues) == [first, copy, other]
    assert copy.spec.key == first.spec.key
    assert [queues[queue.spec.copy_key] for queue in queues] == [first, copy, other]


def test_who_is_pinned_is_so_in_every_copy(small: Registry, tmp_path: Path) -> None:
    queues = queues_of(with_copies(small, pinned=True), tmp_path)
    assert [queues.of("a").is_pinned, queues.of("a", 1).is_pinned] == [True, True]
    assert not queues.of("b").is_pinned


def test_an_expert_that_there_is_not_has_no_queue(small: Registry, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no expert 'c'"):
        queues_of(small, tmp_path).of("c")


def test_the_pace_follows_recent_outcomes_most(small: Registry, tmp_path: Path) -> None:
    queue = queues_of(small, tmp_path).of("a")
    queue.keep_pace()
    first_s, queue.last_s = queue.pace_s, queue.last_s - 100.0
    queue.keep_pace()
    assert queue.pace_s == pytest.approx(first_s + 0.2 * (100.0 - first_s), rel=0.1)
