"""Benchmarks by name. Each prints ratios against a named alternative measured in the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eval.bench.adapters import bench_adapters
from eval.bench.blocks import bench_blocks
from eval.bench.bulk import bench_bulk
from eval.bench.driver import bench_driver
from eval.bench.latency import bench_latency
from eval.bench.latent import bench_latent
from eval.bench.metrics import bench_metrics
from eval.bench.overhead import bench_overhead
from eval.bench.plan import bench_plan
from eval.bench.result import BenchResult
from eval.bench.route import bench_route
from eval.bench.startup import bench_startup
from eval.bench.switch import bench_switch
from eval.bench.throughput import bench_throughput
from eval.bench.variants import bench_variants

BENCHES: Mapping[str, Callable[[], BenchResult]] = {
    "adapters": bench_adapters,
    "blocks": bench_blocks,
    "bulk": bench_bulk,
    "driver": bench_driver,
    "latency": bench_latency,
    "latent": bench_latent,
    "metrics": bench_metrics,
    "overhead": bench_overhead,
    "plan": bench_plan,
    "route": bench_route,
    "startup": bench_startup,
    "switch": bench_switch,
    "throughput": bench_throughput,
    "variants": bench_variants,
}
