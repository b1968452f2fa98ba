"""Ray Serve's model multiplexing on queries of a batch, in an environment of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from composer.backends.vllm_memory import vllm_engine_args
from composer.experts import Registry
from composer.pool.environment import runner_environment
from composer.types import Request
from eval.bench.environment import environment_python
from eval.bench.result import median, note

MAX_MODELS = 2
"""Engines that one replica holds: what the batch has memory for."""
HOW = (
    "Ray Serve's multiplexing: one deployment, one replica, two models at most, each an engine in "
    "the replica's process with the pool's own engine_args and environment; as in the pool one "
    "engine loads or writes at a time (vLLM's forward context is a global of the process)"
)
Work = dict[str, Any]
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the queries of a sample took, one after the other."""

    seconds: float
    load_s: tuple[float, ...]
    """Of each load."""
    n_queries: int

    def figures(self, n_queries: int, wall_s: float) -> dict[str, float]:
        """Extrapolated to all queries of a batch, and beside the seconds that it took."""
        all_s = self.seconds / self.n_queries * n_queries
        return {
            "multiplexed_s": all_s,
            "multiplexed_loads_per_query": len(self.load_s) / self.n_queries,
            "multiplexed_median_load_s": median(self.load_s),
            "multiplexed_ratio": all_s / wall_s,
        }


def make_work(registry: Registry, asked: Sequence[Request], by: str, n_queries: int) -> Work:
    """What the script is told: the engines, and the first queries with whom they are asked.

    Args:
        registry: Experts whose sources are folders, alike but for these.
        asked: All that the batch asked.
        by: The expert that synthesises.
        n_queries: Of the sample; one more, which is not timed, starts everything.
    """
    queries: dict[str, dict[str, Any]] = {}
    for request in asked:
        if request.purpose == "propose":
            messages = [asdict(message) for message in request.messages]
            query = queries.setdefault(
                request.id.partition("/")[0], {"messages": messages, "proposers": []}
            )
            query["proposers"].append(request.expert)
    first = sorted(queries, key=lambda name: int(name.removeprefix("q")))[: n_queries + 1]
    spec = registry.engine_spec(by)
    spec = replace(spec, model_path=spec.source)
    return {
        "models": {name: expert.source for name, expert in registry.experts.items()},
        "engine_args": vllm_engine_args(spec, "cpu"),
        "environment": runner_environment("vllm", os.cpu_count() or 1),
        "max_models": MAX_MODELS,
        "max_tokens": registry.experts[by].sampling.max_tokens,
        "by": by,
        "queries": [queries[name] for name in first],
    }


def run_multiplexed(work: Work, cache: Path) -> Taken | None:
    """Let Serve answer the queries; None: it cannot be installed, or did not work."""
    requirement = f"ray[serve]=={importlib.metadata.version('ray')}"
    python = environment_python(cache, requirement, sees_ours=True)
    if python is None:
        return None
    done = subprocess.run(
        [python, "-m", "eval.bench.multiplexed_script"],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        check=False,
    )
    return read_taken(done.stdout, done.stderr, len(work["queries"]) - 1)


def read_taken(stdout: str, stderr: str, n_queries: int) -> Taken | None:
    """What the script measured; None, and a note: it said nothing of the kind."""
    for line in stdout.splitlines():
        if line.startswith('{"seconds"'):
            said = json.loads(line)
            return Taken(float(said["seconds"]), tuple(said["load_s"]), n_queries)
    # Groups of exceptions are told in frames.
    said_last = [text for line in stderr.splitlines() if (text := line.strip(" |+-"))]
    note(f"Ray Serve's multiplexing is not measured: {(said_last or ['no reason given'])[-1]}")
    return None
