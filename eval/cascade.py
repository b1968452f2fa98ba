"""What a cascade saves on recorded answers, against a router alone and against mixing at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.aggregators.cascade.fit import FittedCascade, fit_cascade
from composer.aggregators.cascade.heldout import complete_rows, ends, fit_frontier, make_votes
from composer.aggregators.cascade.search import run_cascade, stage_votes
from composer.experts import ChooseRule
from composer.outcomes import OutcomeTable
from composer.protocols import Encoder
from eval.metrics import cost_saved_at_equal_quality, interval, resample_means
from eval.replay.methods import parse
from eval.replay.output import number
from routers import make_fitted_router

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

WAYS = (0.8, 0.95, 1.0)
"""Shares of the way from the cheapest expert's accuracy to the best single one's."""
WEIGHTS = (0.0, *np.geomspace(0.003, 30, 33).tolist())
"""Weights of cost that the router is tried with: quality for one query of the best single."""
N_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Curve:
    """One method at several settings, on the n judged queries."""

    method: str
    score: Float64Array
    """[c, n]."""
    cost_usd: Float64Array
    """[c, n]."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its 95 % interval, from resampled queries."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is unknown is null."""
        value, *ends = (None if np.isnan(v) else v for v in (self.value, self.low, self.high))
        return {"value": value, "ci95": ends}

    def __str__(self) -> str:
        return (
            f"{number(self.value, '.3f')} [{number(self.low, '.3f')}, {number(self.high, '.3f')}]"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What it costs to get some way from the cheapest expert to the best single one."""

    n_train: int
    n: int
    cheapest: str
    best: str
    curves: tuple[Curve, ...]
    shares: Mapping[str, tuple[Figure, ...]]
    """By method: the cost at each of `WAYS`, as a share of the best single expert's."""
    saved: tuple[Figure, ...]
    """The router's shares less the cascade's."""
    chosen: FittedCascade
    """The cascade for 95 % of the way, as it is fitted on train."""
    chosen_is: Mapping[str, Figure]
    """What it does on the judged queries."""
    alone: Curve
    """Every expert by itself: one row each."""


def compare(
    train: OutcomeTable,
    judged: OutcomeTable,
    encoder: Encoder,
    *,
    router: str = "stacked",
    n_stages: int = 4,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Comparison:
    """Fit all methods on train and judge them on other rows.

    Args:
        train: Chooses stages, thresholds, measures, the cheapest and the best expert.
        judged: The same experts on other queries.
        encoder: The router's.
        router: A fitted router, its settings in brackets; swept over the weight of cost.
        n_stages: Of a cascade, at most.
        seed: Of the resampling.
        n_resamples: Of the judged queries.

    Raises:
        ConfigError: The tables cannot teach a cascade or the router.
    """
    train, judged = complete_rows(train), complete_rows(judged)
    cheap, best = ends(train)
    chosen = fit_cascade(train, n_stages=n_stages)
    score, cost = _cells(judged)
    pair = [cheap, best]
    curves = (
        _cascades(train, judged, chosen.settings.measure, n_stages),
        _routed(router, train, judged, encoder),
        Curve("random mix", score[:, pair].T, cost[:, pair].T),
    )
    single = (score[:, cheap], score[:, best], cost[:, best])
    at, of = _chosen_rows(chosen, train, judged)
    columns = [row for curve in curves for row in (*curve.score, *curve.cost_usd)]
    table = np.stack([*columns, at, of, *single], axis=1)
    samples = resample_means(table, None, n_resamples, seed).micro()
    rows = [table.mean(axis=0), *samples]
    ways = np.array([_cost_shares(row, curves) for row in rows])
    figures = [[_figure(ways[:, c, w]) for w in range(len(WAYS))] for c in range(len(curves))]
    return Comparison(
        len(train.queries),
        len(judged.queries),
        train.names[cheap],
        train.names[best],
        curves,
        {curve.method: tuple(each) for curve, each in zip(curves, figures, strict=True)},
        tuple(_figure(ways[:, 1, w] - ways[:, 0, w]) for w in range(len(WAYS))),
        chosen,
        _chosen_figures(np.array(rows)),
        Curve("one expert", score.T, cost.T),
    )


def mean_points(curve: Curve) -> tuple[Float64Array, Float64Array]:
    """Mean costs in USD a query and accuracies of a curve's settings [c] each."""
    return curve.cost_usd.mean(axis=1), curve.score.mean(axis=1)


def _cells(table: OutcomeTable) -> tuple[Float64Array, Float64Array]:
    assert table.cost_usd is not None, "a complete table has costs"
    return table.score.astype(np.float64), table.cost_usd.astype(np.float64)


def _cascades(train: OutcomeTable, judged: OutcomeTable, measure: str, n_stages: int) -> Curve:
    """The cascades that train finds, each once."""
    votes = make_votes(judged, measure, train)
    found = dict.fromkeys(fit_frontier(train, measure, n_stages))
    runs = [run_cascade(stage_votes(votes, each.columns), each.thresholds) for each in found]
    return Curve("cascade", np.array([r[0] for r in runs]), np.array([r[1] for r in runs]))


def _chosen_rows(
    chosen: FittedCascade, train: OutcomeTable, judged: OutcomeTable
) -> tuple[Float64Array, Float64Array]:
    settings = chosen.settings
    votes = make_votes(judged, settings.measure, train)
    columns = [judged.names.index(name) for name in settings.experts or ()]
    score, cost, _ = run_cascade(stage_votes(votes, columns), settings.thresholds)
    return score, cost


def _routed(name: str, train: OutcomeTable, judged: OutcomeTable, encoder: Encoder) -> Curve:
    """A router that asks one expert, at each weight of the experts' mean cost on train."""
    kind, settings = parse(name)
    router = make_fitted_router(kind, settings, encoder=encoder).fit(train)
    queries = judged.to_queries(with_category=False)
    scores = router.score(queries, [query.annotation for query in judged.queries])
    quality = scores.quality[:, [scores.experts.index(each) for each in judged.names]]
    mean_cost = _cells(train)[1].mean(axis=0)
    expected = np.broadcast_to(mean_cost.astype(np.float32), quality.shape)
    score, cost = _cells(judged)
    rows = np.arange(len(score))
    chosen: dict[bytes, tuple[Float64Array, Float64Array]] = {}
    for weight in WEIGHTS:
        rule = ChooseRule(cost_weight=weight / float(mean_cost[ends(train)[1]]))
        utility = np.nan_to_num(rule.utility(quality, expected), nan=-np.inf)
        asked = utility.argmax(axis=1)
        chosen[asked.tobytes()] = (score[rows, asked], cost[rows, asked])
    points = list(chosen.values())
    return Curve(
        f"router ({name})", np.array([p[0] for p in points]), np.array([p[1] for p in points])
    )


def _cost_shares(means: Float64Array, curves: Sequence[Curve]) -> list[list[float]]:
    """Of each curve, its cost at each of `WAYS` as a share of the best single's [curves, WAYS]."""
    cheap, best, cost = means[-3:]
    shares: list[list[float]] = []
    start = 0
    for curve in curves:
        n = len(curve.score)
        score, spent = means[start : start + n], means[start + n : start + 2 * n]
        start += 2 * n
        shares.append(
            [
                1 - cost_saved_at_equal_quality(spent, score, cost, cheap + way * (best - cheap))
                for way in WAYS
            ]
        )
    return shares


def _chosen_figures(rows: Float64Array) -> dict[str, Figure]:
    accuracy, cost, cheap, best, best_cost = rows[:, -5:].T
    return {
        "accuracy": _figure(accuracy),
        "cost_usd": _figure(cost),
        "way": _figure((accuracy - cheap) / (best - cheap)),
        "cost_share": _figure(cost / best_cost),
    }


def _figure(values: Float64Array) -> Figure:
    """The first value with the interval of the others."""
    low, high = interval(values[1:])
    return Figure(float(values[0]), float(low), float(high))
