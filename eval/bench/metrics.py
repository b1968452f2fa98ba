"""Seconds of every metric and of 10,000 bootstrap resamples, beside a plain loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eval.bench.result import BenchResult, load_average, median, note
from eval.metrics import (
    StrongWeakRun,
    accuracy,
    aiq,
    apgr,
    bootstrap_strong_weak,
    brier,
    cost_per_1k,
    coverage_accuracy,
    ece,
    macro_accuracy,
    ndcg_at_k,
    recall_at_k,
    regret,
    resample_means,
    strong_weak_curve,
)
from eval.metrics.arrays import Float64Array, Int64Array

SMALL, LARGE = (9408, 7), (1_000_000, 20)
ROUNDS, RESAMPLES, NAIVE_RESAMPLES, STRATA, SEEDS = 3, 10_000, 200, 5, 5


@dataclass(frozen=True, slots=True)
class _Table:
    score: Float64Array
    quality: Float64Array
    cost_usd: Float64Array
    category: Int64Array


def bench_metrics() -> BenchResult:
    """Every metric on tables of two sizes, in alternating rounds; medians."""
    before = load_average()
    figures: dict[str, float] = {}
    methods: dict[str, str] = {}
    for (n, m), metrics in ((SMALL, METRICS | SMALL_ONLY), (LARGE, METRICS)):
        table, size = _made_table(n, m), f"{n}x{m}"
        methods[size] = resample_means(table.score, table.category, RESAMPLES).method
        taken: dict[str, list[float]] = {name: [] for name in metrics}
        for number in range(ROUNDS):
            for name, metric in metrics.items():
                taken[name].append(_seconds(metric, table))
            note(f"{size}, round {number}: bootstrap {taken['bootstrap'][-1]:.2f} s")
        figures |= {f"{name}_s_{size}": median(seconds) for name, seconds in taken.items()}
    figures["naive_bootstrap_s_9408x7"] *= RESAMPLES / NAIVE_RESAMPLES
    ratio = figures["naive_bootstrap_s_9408x7"] / figures["bootstrap_s_9408x7"]
    return BenchResult(
        "metrics",
        figures | {"bootstrap_ratio_9408x7": ratio},
        {
            "table": "made up: 0/1 scores, continuous predictions and costs, 5 categories",
            "resamples": RESAMPLES,
            "bootstrap_method": methods,
            "naive": f"rows drawn and averaged in a loop, timed over {NAIVE_RESAMPLES} resamples "
            f"and multiplied by {RESAMPLES // NAIVE_RESAMPLES}",
            "bootstrap_continuous": "of the predictions, whose rows are all distinct",
            "bootstrap_strong_weak": f"2,000 resamples of {SEEDS} runs",
            "per_expert": "accuracy, macro_accuracy and cost_per_1k are of every column; ece, "
            "brier and coverage_accuracy of all cells; k is 3",
            "rounds": ROUNDS,
            "load_average": [before, load_average()],
        },
    )


def _made_table(n: int, m: int) -> _Table:
    """Queries of differing difficulty, experts of differing skill, a router with some idea."""
    rng = np.random.default_rng(0)
    chance = np.clip(rng.random((n, 1)) + np.linspace(-0.2, 0.2, m), 0, 1)
    return _Table(
        (rng.random((n, m)) < chance).astype(np.float64),
        0.7 * chance + 0.3 * rng.random((n, m)),
        rng.random((n, m)) * np.linspace(0.1, 1, m),
        rng.integers(0, STRATA, n),
    )


def _runs(table: _Table) -> list[StrongWeakRun]:
    """One router a seed, all asked the same questions."""
    rng = np.random.default_rng(0)
    strong, weak, n = table.score[:, -1], table.score[:, 0], len(table.score)
    return [StrongWeakRun(rng.random(n), strong, weak, np.arange(n)) for _ in range(SEEDS)]


def _naive_bootstrap(table: _Table) -> Float64Array:
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(table.category == stratum) for stratum in range(STRATA)]
    means = np.empty((NAIVE_RESAMPLES, STRATA, table.score.shape[1]))
    for resample in range(NAIVE_RESAMPLES):
        for stratum, rows in enumerate(members):
            drawn = rows[rng.integers(0, len(rows), len(rows))]
            means[resample, stratum] = table.score[drawn].mean(axis=0)
    return means


def _seconds(metric: Callable[[_Table], object], table: _Table) -> float:
    started_s = time.perf_counter()
    metric(table)
    return time.perf_counter() - started_s


METRICS: dict[str, Callable[[_Table], object]] = {
    "bootstrap": lambda t: resample_means(t.score, t.category, RESAMPLES),
    "accuracy": lambda t: [accuracy(column) for column in t.score.T],
    "macro_accuracy": lambda t: [macro_accuracy(column, t.category) for column in t.score.T],
    "cost_per_1k": lambda t: [cost_per_1k(column) for column in t.cost_usd.T],
    "regret": lambda t: regret(t.score[:, 0], t.score),
    "ndcg": lambda t: ndcg_at_k(t.quality, t.score, 3),
    "recall": lambda t: recall_at_k(t.quality, t.score, 3),
    "ece": lambda t: ece(t.quality, t.score),
    "ece_equal_mass": lambda t: ece(t.quality, t.score, equal_mass=True),
    "brier": lambda t: brier(t.quality, t.score),
    "coverage_accuracy": lambda t: coverage_accuracy(t.quality, t.score).area,
    "apgr": lambda t: apgr(
        strong_weak_curve(t.quality[:, 0] - t.quality[:, 1], t.score[:, 0], t.score[:, 1])
    ),
    "aiq": lambda t: aiq(t.cost_usd.mean(axis=0), t.score.mean(axis=0), 0, 1),
}
SMALL_ONLY: dict[str, Callable[[_Table], object]] = {
    "bootstrap_continuous": lambda t: resample_means(t.quality, t.category, RESAMPLES),
    "naive_bootstrap": _naive_bootstrap,
    "bootstrap_strong_weak": lambda t: bootstrap_strong_weak(_runs(t)),
}
