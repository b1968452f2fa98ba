"""What the bulk driver itself costs: batches of queries to experts that answer at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from composer.assembly import compose
from composer.experts import Registry, load_experts
from eval.bench.result import BenchResult, load_average, note

FEW, MANY = 10_000, 100_000
"""Queries: of memory, what many take more than few grows with the batch."""
N_ASKED = 1_000
"""Queries that are asked one after the other."""
N_EXPERTS, N_RESIDENT = 6, 2
QUERIES = "in.jsonl"
PROMPT = "Question {number}: which of the rivers that rise in the Alps is the longest, and why?"


def bench_driver() -> BenchResult:
    """Queries a second, memory and loads of a batch, beside the same queries asked in turn."""
    before = load_average()
    few, many = _fresh(FEW), _fresh(MANY)
    online = asyncio.run(_ask(N_ASKED))
    figures = {
        "queries_per_s": MANY / many["seconds"],
        "ms_per_query": 1000 * many["seconds"] / MANY,
        "cpu_ms_per_query": 1000 * many["cpu_s"] / MANY,
        "few_cpu_ms_per_query": 1000 * few["cpu_s"] / FEW,
        "online_cpu_ms_per_query": 1000 * online["cpu_s"] / N_ASKED,
        "online_ratio": online["cpu_s"] / N_ASKED / (many["cpu_s"] / MANY),
        "peak_gib": many["peak_bytes"] / (1 << 30),
        "few_peak_gib": few["peak_bytes"] / (1 << 30),
        "bytes_per_query": (many["peak_bytes"] - few["peak_bytes"]) / (MANY - FEW),
        "disk_bytes_per_query": many["disk_bytes"] / MANY,
        "loads": many["loads"],
        "online_loads_per_query": online["loads"] / N_ASKED,
    }
    settings: dict[str, Any] = {
        "batch": f"{MANY} plain queries of {len(PROMPT)} characters, and {FEW}; k = 1, the router "
        "random, the aggregator best",
        "experts": f"{N_EXPERTS} scripted ones in the driver's process, which load and answer at "
        f"once; memory for {N_RESIDENT}",
        "peak": "growth of a fresh process, after its imports, that runs the batch once",
        "cpu": "seconds that a core works on it, which others on the machine change less",
        "bytes_per_query": f"what {MANY} queries make it grow by more than {FEW}, a query",
        "disk": "journal, results and scores",
        "online": f"{N_ASKED} of the queries, one after the other, by `Composer.ask`",
        "load_average": [before, load_average()],
    }
    return BenchResult("driver", figures, settings)


def run(n_queries: int) -> dict[str, float]:
    """Answer a batch: its seconds, those of a core, and what it takes of memory and disk."""
    with tempfile.TemporaryDirectory(prefix="composer-driver-") as name:
        folder = Path(name)
        with open(folder / QUERIES, "w", encoding="utf-8") as file:
            for number in range(n_queries):
                line = {"id": f"q{number}", "prompt": PROMPT.format(number=number)}
                file.write(json.dumps(line) + "\n")
        return asyncio.run(_batch(n_queries, folder))


async def _batch(n_queries: int, folder: Path) -> dict[str, float]:
    run_dir = folder / "run"
    before_bytes = _peak_bytes()
    started_s, cpu_started_s = time.perf_counter(), time.process_time()
    async with compose(_registry(folder), cache=folder) as composer:
        report = await composer.batch(folder / QUERIES, "main", run_dir)
    assert report.n_answered == n_queries, "scripted experts answer"
    return {
        "seconds": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - cpu_started_s,
        "peak_bytes": _peak_bytes() - before_bytes,
        "disk_bytes": sum(written.stat().st_size for written in run_dir.iterdir()),
        "loads": report.loads,
    }


async def _ask(n_queries: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="composer-driver-") as name:
        async with compose(_registry(Path(name)), cache=Path(name)) as composer:
            started_s = time.process_time()
            for number in range(n_queries):
                await composer.ask(PROMPT.format(number=number), composition="main")
            return {"cpu_s": time.process_time() - started_s, "loads": composer.pool.n_loads}


def _registry(folder: Path) -> Registry:
    script = {"text": "The Danube does not count; the Rhine.", "memory_gib": 1}
    experts = {
        f"expert{number}": {"engine": "scripted", "engine_args": script}
        for number in range(N_EXPERTS)
    }
    main = {"router": {"name": "random"}, "choose": {"k": 1}, "aggregator": {"name": "best"}}
    path = folder / "experts.yaml"
    pool = {"memory_gib": N_RESIDENT}
    text = json.dumps({"experts": experts, "compositions": {"main": main}, "pool": pool})
    path.write_text(text, "utf-8")
    return load_experts(path)


def _peak_bytes() -> int:
    # Not getrusage's: what that says of a new process includes the one it was started from.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _fresh(n_queries: int) -> dict[str, float]:
    """`run`, in a process of its own."""
    code = f"import json; from eval.bench.driver import run; print(json.dumps(run({n_queries})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    note(f"{n_queries} queries: {figures['seconds']:.1f} s, {figures['peak_bytes'] / 1e6:.0f} MB")
    return figures
