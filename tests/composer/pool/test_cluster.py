"""Experts on the machines of a Ray cluster: one is killed in the middle of a batch, another joins.

The machines are processes of this one; the batch is a process of its own, since a process has one
Ray only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, stop_after_attempt

pytestmark = pytest.mark.ray

EXPERTS = ("ann", "ben", "cas", "dan")
GIB = 1 << 30
PATIENCE_S = 240.0
patient = retry(stop=stop_after_attempt(3))
"""A part of Ray gives up starting after half a minute, which a busy machine may need."""


@dataclass
class Machines:
    """A cluster whose head has no place for experts, and machines that have."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list[Any])

    def have(self, n: int) -> None:
        while len(self.nodes) > n:
            self.kill()
        while len(self.nodes) < n:
            self.add()

    def add(self) -> None:
        self.nodes.append(
            patient(self.cluster.add_node)(
                num_cpus=1, memory=3 * GIB, object_store_memory=80 << 20, resources={"expert": 1}
            )
        )

    def kill(self) -> None:
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster: Any = patient(Cluster)(initialize_head=True, head_node_args=head)
    made = Machines(cluster)
    yield made
    cluster.shutdown()


@dataclass
class Batch:
    """A batch on the cluster, in a process of its own."""

    folder: Path
    process: subprocess.Popen[str]

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / "run" / name
        text = path.read_text("utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for_results(self, n: int) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while len(self.lines("results.jsonl")) < n:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end_s, "it does not get on"
            time.sleep(0.05)

    def end(self) -> None:
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, errors


Start = Callable[..., Batch]


@pytest.fixture
def start(machines: Machines, tmp_path: Path) -> Iterator[Start]:
    begun: list[Batch] = []

    def make(n: int, experts: tuple[str, ...], *, token_s: float = 0.02, **pool: Any) -> Batch:
        script = {"text": "one two three four", "token_s": token_s, "memory_gib": 1}
        entry = {"engine": "scripted", "runner": "ray", "engine_args": script}
        settings = {"node_resource": "expert", "max_attempts": 4, "warm_spares": 0} | pool
        one = {"router": {"name": "random"}, "choose": {"k": 1}, "aggregator": {"name": "best"}}
        registry = {
            "experts": dict.fromkeys(experts, entry),
            "compositions": {"main": one},
            "pool": settings,
        }
        (tmp_path / "experts.yaml").write_text(json.dumps(registry), "utf-8")
        lines = [json.dumps({"id": f"q{i}", "prompt": f"why {i}?"}) for i in range(n)]
        (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        command = [sys.executable, "-m", "composer", "batch", "in.jsonl", "--out", "run"]
        process = subprocess.Popen(
            [*command, "-c", "main"],
            cwd=tmp_path,
            env=os.environ
            | {"RAY_ADDRESS": machines.cluster.address, "XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(Batch(tmp_path, process))
        return begun[-1]

    yield make
    for batch in begun:
        batch.process.kill()
        batch.process.wait()


def test_a_cluster_without_the_resource_is_an_error_with_the_remedy(
    machines: Machines, start: Start
) -> None:
    batch = start(3, EXPERTS, node_resource="nowhere")

    _, errors = batch.process.communicate(timeout=PATIENCE_S)

    assert batch.process.returncode == 1
    assert "ray start --resources" in errors.splitlines()[-1]


def test_a_machine_that_is_killed_in_the_middle_of_a_batch_loses_nothing(
    machines: Machines, start: Start
) -> None:
    machines.have(2)
    batch = start(400, EXPERTS)
    batch.wait_for_results(40)

    machines.kill()
    batch.end()

    results = batch.lines("results.jsonl")
    assert sorted(r["id"] for r in results) == sorted(f"q{i}" for i in range(400))
    assert not [r for r in results if "error" in r]
    assert {stage["slot"] for stage in batch.lines("stages.jsonl")} == {0, 1}


def test_a_machine_that_joins_takes_a_copy_of_the_expert_that_is_asked_most(
    machines: Machines, start: Start
) -> None:
    machines.have(1)
    batch = start(1500, ("ann",), token_s=0.6)
    batch.wait_for_results(20)

    machines.add()
    batch.end()

    assert len({r["id"] for r in batch.lines("results.jsonl")}) == 1500
    assert {stage["slot"] for stage in batch.lines("stages.jsonl")} == {0, 1}
