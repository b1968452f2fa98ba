"""Seconds and memory of a plan of a million requests; its end and its loads beside plain rules."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.pool.plan import EngineCost, Node, Plan, Stage, Waiting, make_plan
from composer.pool.problem import make_problem
from composer.pool.replicas import lower_bound_s
from eval.bench.result import BenchResult, load_average, median, note

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

GIB = 1 << 30
REQUESTS, EXPERTS, NODES, SLOTS, ROUNDS = 1_000_000, 200, 4, 4, 3
NODE_GIB, TIGHT_GIB = 80, 24


def bench_plan() -> BenchResult:
    """A plan, the plan after a node fails, and what else one might do."""
    before = load_average()
    waiting, engines = make_load()
    nodes = make_nodes(NODE_GIB)
    plan = make_plan(waiting, engines, nodes)
    single = make_plan(waiting, engines, nodes, replicas=False)
    tight = make_plan(waiting, engines, make_nodes(TIGHT_GIB))
    left, survivors = after_failure(plan, waiting, nodes)
    plans: list[float] = []
    replans: list[float] = []
    for number in range(ROUNDS):
        plans.append(_seconds(waiting, engines, nodes))
        replans.append(_seconds(left, engines, survivors))
        note(f"round {number}: plan {plans[-1]:.2f} s, again {replans[-1]:.2f} s")
    seconds = engine_seconds(waiting, engines)
    lpt_s = longest_first_s(seconds, NODES * SLOTS)
    arrival_loads = round_robin_loads(waiting, NODES * SLOTS)
    bound_s = lower_bound_s(make_problem(waiting, engines, nodes).work)
    figures = {
        "plan_s": median(plans),
        "replan_s": median(replans),
        "peak_gib": _fresh_peak_gib(),
        "makespan_s": plan.estimate.seconds,
        "bound_ratio": plan.estimate.seconds / bound_s,
        "lpt_ratio": lpt_s / plan.estimate.seconds,
        "lpt_ratio_no_replicas": lpt_s / single.estimate.seconds,
        "loads": plan.estimate.loads,
        "round_robin_loads_ratio": arrival_loads / plan.estimate.loads,
        "tight_ratio": tight.estimate.seconds / area_s(tight, engines, NODES * TIGHT_GIB * GIB),
    }
    settings: dict[str, Any] = {
        "load": f"{REQUESTS} requests; {EXPERTS} experts of 4 to 16 GiB, popularity 1 / rank, that "
        f"load in 10 to 60 s; {NODES} nodes of {SLOTS} slots and {NODE_GIB} GiB; seed 0",
        "replan": f"half way the last node fails: {len(left.engine)} unfinished requests on the "
        "others, which hold what they run then",
        "peak": "growth of a fresh process, after its imports, that makes the load and plans once",
        "bound": "before which no plan ends, whatever is split",
        "lpt": "longest processing time first, no replicas, no search: its end over ours",
        "round_robin": "requests in order of arrival, slot by slot, each slot holding one engine: "
        "its loads over ours",
        "tight": f"the same with {TIGHT_GIB} GiB a node: our end over what bytes times seconds of "
        "the stages need of the nodes' memory",
        "rounds": ROUNDS,
        "load_average": [before, load_average()],
    }
    return BenchResult("plan", figures, settings)


def make_load() -> tuple[Waiting, list[EngineCost]]:
    """A million requests of unequal popularity, from a seed."""
    rng = np.random.default_rng(0)
    figures = zip(
        rng.uniform(4, 16, EXPERTS).tolist(),
        rng.uniform(10, 60, EXPERTS).tolist(),
        rng.uniform(5_000, 20_000, EXPERTS).tolist(),
        rng.uniform(1_000, 4_000, EXPERTS).tolist(),
        strict=True,
    )
    engines = [
        EngineCost(f"expert-{number}", int(size * GIB), load_s, prompt, completion)
        for number, (size, load_s, prompt, completion) in enumerate(figures)
    ]
    popularity = 1 / np.arange(1, EXPERTS + 1)
    waiting = Waiting(
        rng.choice(EXPERTS, REQUESTS, p=popularity / popularity.sum()).astype(np.int32),
        rng.integers(50, 2_000, REQUESTS).astype(np.int32),
        rng.gamma(2, 100, REQUESTS).astype(np.float32),
    )
    return waiting, engines


def make_nodes(memory_gib: int) -> list[Node]:
    """Empty nodes."""
    return [Node(f"node-{number}", memory_gib * GIB, SLOTS) for number in range(NODES)]


def after_failure(
    plan: Plan, waiting: Waiting, nodes: Sequence[Node]
) -> tuple[Waiting, list[Node]]:
    """What is left when the last node fails half way: rows, and nodes with what they hold then."""
    now_s = plan.estimate.seconds / 2
    unfinished = [stage for stage in plan.stages if stage.end_s > now_s]
    rows = np.concatenate([stage.requests[_done(stage, now_s) :] for stage in unfinished])
    survivors = [
        Node(
            node.name,
            node.memory_bytes,
            node.slots,
            tuple(s.engine for s in unfinished if s.node == node.name and s.ready_s <= now_s),
        )
        for node in nodes[:-1]
    ]
    left = Waiting(
        waiting.engine[rows], waiting.prompt_tokens[rows], waiting.completion_tokens[rows]
    )
    return left, survivors


def _done(stage: Stage, now_s: float) -> int:
    """How many requests of a stage are finished, if all take the same time."""
    share = (now_s - stage.ready_s) / (stage.end_s - stage.ready_s)
    return int(max(0.0, share) * len(stage.requests))


def engine_seconds(waiting: Waiting, engines: Sequence[EngineCost]) -> Float64Array:
    """Load and work of each engine."""
    n = len(engines)
    prompt = np.bincount(waiting.engine, waiting.prompt_tokens, n)
    completion = np.bincount(waiting.engine, waiting.completion_tokens, n)
    return (
        np.array([engine.load_s for engine in engines])
        + prompt / np.array([engine.prompt_tokens_per_s for engine in engines])
        + completion / np.array([engine.completion_tokens_per_s for engine in engines])
    )


def longest_first_s(seconds: Float64Array, slots: int) -> float:
    """Where plain LPT ends."""
    total = np.zeros(slots)
    for each in np.sort(seconds)[::-1].tolist():
        total[np.argmin(total)] += each
    return float(total.max())


def round_robin_loads(waiting: Waiting, slots: int) -> int:
    """How often a slot that takes every so many-th request meets another engine than before."""
    queues = [waiting.engine[slot::slots] for slot in range(slots)]
    return sum(1 + int(np.count_nonzero(np.diff(queue))) for queue in queues)


def area_s(plan: Plan, engines: Sequence[EngineCost], memory_bytes: int) -> float:
    """Seconds that the stages need if memory is always full."""
    size = {engine.key: engine.memory_bytes for engine in engines}
    return sum(size[s.engine] * (s.end_s - s.start_s) for s in plan.stages) / memory_bytes


def peak_gib() -> float:
    """Growth of this process's peak by making the load and planning once."""
    before_kib = _peak_kib()
    waiting, engines = make_load()
    make_plan(waiting, engines, make_nodes(NODE_GIB))
    return (_peak_kib() - before_kib) / (1 << 20)


def _peak_kib() -> int:
    # Not getrusage's: what that says of a new process includes the one it was started from.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def _fresh_peak_gib() -> float:
    code = "from eval.bench.plan import peak_gib; print(peak_gib())"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(run.stdout)


def _seconds(waiting: Waiting, engines: Sequence[EngineCost], nodes: Sequence[Node]) -> float:
    started_s = time.perf_counter()
    make_plan(waiting, engines, nodes)
    return time.perf_counter() - started_s
