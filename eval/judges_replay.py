"""Flows with a judge on recorded texts: what they ask beside the formulas, and whom they pick."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.aggregators import make_aggregator
from composer.aggregators.judge.calls import judge_calls, rank_and_fuse_calls
from composer.aggregators.references import without_thinking
from composer.errors import ConfigError
from composer.flow import FlowRun, complete_answer
from composer.outcomes import OutcomeTable
from composer.protocols import Aggregator
from composer.types import Answer, Choice, Evidence, Selection
from eval.judges_script import JUDGE, SAMPLED, ScriptedJudge, outcome, usd_of, worth_of
from eval.metrics import interval, resample_means
from eval.replay.recorded_flow import TOOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

N_RESAMPLES = 10_000
N_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Method:
    """An aggregator with a judge, and how many requests its formula says."""

    aggregator: Aggregator
    calls: Callable[[Sequence[int]], int]
    """Of the order in which the judge put the proposals."""
    is_sampled: bool = False
    """Its proposals are one expert's."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method; figures of a query are means."""

    method: str
    n: int
    calls: float
    calls_by_formula: float
    usd: float
    usd_by_formula: float
    n_differ: int
    """Queries of which calls or cost differ from the formula."""
    differing: tuple[str, ...]
    """The first of them."""
    score: float
    """Recorded, of the proposal that came first."""
    ci95: tuple[float, float]
    delta_best_single: float
    delta_ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found on a table."""

    dataset: str
    judge: ScriptedJudge
    proposers: tuple[str, ...]
    """The best on train, best first."""
    n: int
    n_left_out: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    query_id: str
    calls: int
    calls_by_formula: int
    usd: float
    usd_by_formula: float
    winner: int

    @property
    def differs(self) -> bool:
        is_same = math.isclose(self.usd, self.usd_by_formula, abs_tol=1e-12)
        return self.calls != self.calls_by_formula or not (is_same or math.isnan(self.usd))


def make_methods(k: int) -> dict[str, Method]:
    """The methods over k proposals, by name."""
    judge: dict[str, Any] = {"by": JUDGE}
    return {
        "judge pointwise": Method(
            make_aggregator("judge", judge), lambda order: judge_calls("pointwise", k)
        ),
        "judge pairwise": Method(
            make_aggregator("judge", judge | {"mode": "pairwise"}),
            lambda order: judge_calls("pairwise", k, order=order),
        ),
        f"best of {k}": Method(
            make_aggregator("judge", judge | {"n": k, "temperature": 1.0}),
            lambda order: judge_calls("pointwise", 1, n=k),
            is_sampled=True,
        ),
        "rank-and-fuse": Method(
            make_aggregator("rank-and-fuse", judge),
            lambda order: rank_and_fuse_calls("pairwise", k, order=order),
        ),
    }


def judge_records(
    table: OutcomeTable,
    judge: ScriptedJudge,
    *,
    k: int,
    limit: int | None = None,
    methods: Mapping[str, Method] | None = None,
    on_method: Callable[[str, int], Callable[[], None]] = lambda method, n: lambda: None,
) -> Judged:
    """Run the methods on the rows outside train.

    Args:
        table: With texts.
        judge: Who judges.
        k: How many experts propose: the best on train.
        limit: The first rows only; None: all.
        methods: By name; None: those of `make_methods`.
        on_method: Called with a method and the number of rows before they are judged; what it
            returns is called after each row.

    Raises:
        ConfigError: There are no texts, no train split, fewer experts than k, or no rows to judge.
    """
    proposers, judged, n_left_out = _judged_rows(table, k, limit)
    scores: dict[str, list[float]] = {
        "random": judged.score.mean(axis=1).tolist(),
        "best-single": judged.score[:, 0].tolist(),
        "oracle": judged.score.max(axis=1).tolist(),
    }
    asked: dict[str, list[_Asked]] = {}
    for name, method in (make_methods(k) if methods is None else methods).items():
        advance = on_method(name, len(judged.queries))
        asked[name] = []
        for row in range(len(judged.queries)):
            asked[name].append(_ask(method, judge, judged, row))
            advance()
        scores[name] = [float(judged.score[i, a.winner]) for i, a in enumerate(asked[name])]
    names = list(scores)
    values = np.array([scores[name] for name in names]).T
    means = resample_means(values, None, N_RESAMPLES, judge.seed).micro()
    best = names.index("best-single")
    rows = tuple(
        Row(
            name,
            len(judged.queries),
            *_counts(asked.get(name, [])),
            float(values[:, i].mean()),
            _ends(means[:, i]),
            float((values[:, i] - values[:, best]).mean()),
            _ends(means[:, i] - means[:, best]),
        )
        for i, name in enumerate(names)
    )
    return Judged(table.name, judge, proposers, len(judged.queries), n_left_out, rows)


def _judged_rows(
    table: OutcomeTable, k: int, limit: int | None
) -> tuple[tuple[str, ...], OutcomeTable, int]:
    """The proposers, their outcomes on the rows to judge, and how many of these were left out."""
    if table.texts is None:
        raise ConfigError(
            f"{table.name}: no texts are recorded, and a judge reads texts; give a folder "
            "with responses.jsonl.gz"
        )
    if k > len(table.experts):
        raise ConfigError(
            f"{table.name}: {k} are to propose and there are {len(table.experts)} experts; "
            "lower --k"
        )
    on_train = table.split("train").macro_means()
    best: Int64Array = np.argsort(-np.nan_to_num(on_train), kind="stable")[:k]
    pool = table.with_experts([table.names[int(i)] for i in best])
    outside = pool.rows(np.array([q.split != "train" for q in pool.queries]) & ~pool.is_flagged)
    assert outside.texts is not None
    has_text = np.array(
        [[bool(text and without_thinking(text)) for text in row] for row in outside.texts], np.bool_
    ).reshape(outside.score.shape)
    whole = np.flatnonzero((has_text & ~np.isnan(outside.score)).all(axis=1))
    if not len(whole):
        raise ConfigError(
            f"{table.name}: no row outside train has the text and the score of all {k} proposers; "
            "lower --k, or record more"
        )
    return pool.names, outside.rows(whole[:limit]), len(outside.queries) - len(whole)


def _ask(method: Method, judge: ScriptedJudge, table: OutcomeTable, row: int) -> _Asked:
    """Run a method's flow on one row and count."""
    query, names = table.rows([row]).to_queries(with_category=False)[0], table.names
    ranking = (SAMPLED,) if method.is_sampled else names
    choices = tuple(Choice(e, None, None, lambda: Evidence("the best on train")) for e in ranking)
    quality = [math.nan] * len(ranking)
    selection = Selection(query.id, "train", choices, ranking, ranking, quality, "best on train")
    worth = worth_of(judge.taste, table, row)
    run: FlowRun[Answer] = FlowRun(method.aggregator.combine(query, selection, TOOLS))
    requests = run.start()
    while not run.is_done:
        requests = run.deliver([outcome(r, judge, table, row, worth) for r in requests])
    answer = complete_answer(run.result, selection, [o for sent in run.history for o in sent])
    order = [
        int(name.rpartition("/")[2]) - 1 if method.is_sampled else names.index(name)
        for name in answer.details["ranking"]
    ]
    calls = method.calls(order)
    n_proposing = 1 if method.is_sampled else len(names)
    proposing_usd = sum(usd_of(table, row, column) for column in range(len(names)))
    return _Asked(
        query.id,
        len(answer.completions),
        calls,
        answer.cost_usd,
        proposing_usd + judge.usd * (calls - n_proposing),
        order[0],
    )


def _counts(asked: Sequence[_Asked]) -> tuple[float, float, float, float, int, tuple[str, ...]]:
    """The counting fields of a row, in their order; of a reference, which asks nobody, NaN."""
    differing = [a.query_id for a in asked if a.differs]
    means = (
        fmean(values) if values else math.nan
        for values in (
            [a.calls for a in asked],
            [a.calls_by_formula for a in asked],
            [a.usd for a in asked],
            [a.usd_by_formula for a in asked],
        )
    )
    calls, calls_by_formula, usd, usd_by_formula = means
    shown = tuple(differing[:N_SHOWN])
    return calls, calls_by_formula, usd, usd_by_formula, len(differing), shown


def _ends(resampled: Float64Array) -> tuple[float, float]:
    low, high = interval(resampled)
    return float(low), float(high)
