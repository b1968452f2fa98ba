"""What waits for more engines than fit in memory, in stages on slots that are done early: pure.

Each stage loads one engine, at most, and answers all that waits for it, or a replica's share. Work
is given to slots by seconds (`composer.pool.makespan`, `composer.pool.replicas`), then timed within
memory (`composer.pool.timeline`); of several assignments the one that ends first is the plan. To
plan again, after a failure or an early end, is to plan the rows that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from composer.pool.makespan import Assignment, improved, longest_first, whole
from composer.pool.packing import packed
from composer.pool.problem import Problem, make_problem
from composer.pool.replicas import MIN_GAIN, split
from composer.pool.stages import EngineCost, Estimate, Node, Plan, Stage, Waiting
from composer.pool.timeline import Job, NodeRun, in_order, run_node

_MTOK = 1_000_000


def make_plan(
    waiting: Waiting,
    engines: Sequence[EngineCost],
    nodes: Sequence[Node],
    *,
    last: Collection[str] = (),
    age_limit_s: float | None = None,
    replicas: bool = True,
) -> Plan:
    """Plan all that waits so that the last stage ends early.

    The same input gives the same plan. What it does not know of: tokens that turn out otherwise,
    loads that share a disk, batches too small for the rates, and who waits for whom.

    Args:
        waiting: The requests.
        engines: Those that `waiting.engine` counts.
        nodes: Where they may run.
        last: Keys of engines that will be asked again, and so come last on their slots; others are
            ignored.
        age_limit_s: How old a request may be when its stage starts, which comes before an early
            end. Engines are put in order for it, not given to other slots.
        replicas: Whether an engine's requests may be split between slots where that shortens the
            plan by `MIN_GAIN`.

    Raises:
        ConfigError: Requests wait, and there is no node, or an engine is larger than every node.
        ValueError: `waiting` names an engine that there is not.
    """
    if not len(waiting.engine):
        return Plan((), Estimate(0, 0, 0.0, 0, 0, 0.0, 0))
    problem = make_problem(waiting, engines, nodes)
    rule = _OrderRule(frozenset(last), age_limit_s)
    first = longest_first(problem.work, whole(problem.work))
    better = improved(problem.work, first)
    best = min(*_runs(problem, first, rule), *_runs(problem, better, rule), key=rule.rank)
    if replicas and len(problem.node) > 1:
        with_replicas = min(_runs(problem, split(problem.work), rule), key=rule.rank)
        exceeds, end_s, _ = rule.rank(best)
        if rule.rank(with_replicas)[:2] < (exceeds, end_s * (1 - MIN_GAIN)):
            best = with_replicas
    return _plan(problem, best)


@dataclass(frozen=True, slots=True)
class _OrderRule:
    """What decides the order of stages, and between plans."""

    last: frozenset[str]
    age_limit_s: float | None

    def rank(self, runs: Sequence[NodeRun]) -> tuple[bool, float, int]:
        """Whether the limit of age is exceeded, the end, and the loads: the least is the best."""
        exceeds = any(run.exceeds(self.age_limit_s) for run in runs)
        return exceeds, max(run.end_s for run in runs), sum(run.loads for run in runs)


def _runs(problem: Problem, parts: Assignment, rule: _OrderRule) -> list[list[NodeRun]]:
    """A run a node, with the parts on their slots; and, where memory is short, packed anew."""
    made = [_run(problem, parts, problem.node.tolist(), rule)]
    if problem.is_tight:
        need = np.array([engine.memory_bytes for engine in problem.engines])
        parts = packed(problem.work, parts, need, problem.nodes)
        made.append(_run(problem, parts, range(len(problem.nodes)), rule))
    return made


def _run(
    problem: Problem, parts: Assignment, node_of: Sequence[int], rule: _OrderRule
) -> list[NodeRun]:
    """The best run of each node; `node_of` says whose each place is that parts are in."""
    places = list(zip(node_of, _queues(problem, parts, node_of, rule.last), strict=True))
    best: list[NodeRun] = []
    for number, node in enumerate(problem.nodes):
        queues = [in_order(queue, rule.age_limit_s) for of, queue in places if of == number]
        runs = [
            run_node(queues, node.slots, node.memory_bytes, can_load_ahead=ahead, can_pass=can_pass)
            for ahead in dict.fromkeys((node.can_load_ahead, False))
            for can_pass in (True, False)
        ]
        best.append(min(runs, key=lambda run: rule.rank([run])))
    return best


def _queues(
    problem: Problem, parts: Assignment, node_of: Sequence[int], last: frozenset[str]
) -> list[list[Job]]:
    """The jobs of each place; parts of one engine on one slot are one job."""
    until_s, waited_s = problem.work.until_s, problem.waiting.waited_s
    runs: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    is_slot = [node_of.count(node) == problem.nodes[node].slots for node in node_of]
    columns = (parts.slot.tolist(), parts.engine.tolist(), parts.lo.tolist(), parts.hi.tolist())
    for place, number, lo, hi in zip(*columns, strict=True):
        runs.setdefault((place, number, 0 if is_slot[place] else lo), []).append((lo, hi))
    held = [Counter[str](node.resident) for node in problem.nodes]
    queues: list[list[Job]] = [[] for _ in node_of]
    for (place, number, _), pieces in sorted(runs.items()):
        engine, copies = problem.engines[number], held[node_of[place]]
        rows = np.concatenate([problem.rows[lo:hi] for lo, hi in sorted(pieces)])
        job = Job(
            engine=number,
            rows=rows,
            work_s=float(sum(until_s[hi] - until_s[lo] for lo, hi in pieces)),
            load_s=engine.load_s,
            memory_bytes=engine.memory_bytes,
            is_held=copies[engine.key] > 0,
            is_last=engine.key in last,
            waited_s=0.0 if waited_s is None else float(waited_s[rows[0]]),
        )
        copies[engine.key] -= 1
        queues[place].append(job)
    return queues


def _plan(problem: Problem, runs: Sequence[NodeRun]) -> Plan:
    waiting, engines = problem.waiting, problem.engines
    timed = [
        (n.name, each) for n, run in zip(problem.nodes, runs, strict=True) for each in run.stages
    ]
    timed.sort(key=lambda stage: stage[1].start_s)
    stages = tuple(
        Stage(
            node=node,
            slot=each.slot,
            engine=engines[each.job.engine].key,
            requests=each.job.rows,
            is_load=each.is_load,
            is_ahead=each.is_ahead,
            start_s=each.start_s,
            ready_s=each.ready_s,
            end_s=each.end_s,
        )
        for node, each in timed
    )
    loaded = [each.job.memory_bytes for _, each in timed if each.is_load]
    prompt = np.bincount(waiting.engine, waiting.prompt_tokens, len(engines))
    completion = np.bincount(waiting.engine, waiting.completion_tokens, len(engines))
    price_in = np.array([engine.input_usd_per_mtok for engine in engines])
    price_out = np.array([engine.output_usd_per_mtok for engine in engines])
    estimate = Estimate(
        loads=len(loaded),
        loaded_bytes=sum(loaded),
        seconds=max(run.end_s for run in runs),
        prompt_tokens=int(prompt.sum()),
        completion_tokens=round(float(completion.sum())),
        usd=float(prompt @ price_in + completion @ price_out) / _MTOK,
        peak_bytes=max(run.peak_bytes for run in runs),
    )
    return Plan(stages, estimate)
