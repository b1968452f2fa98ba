"""A strong and a weak expert: how much of the gap a router recovers for how many strong calls.

Source: RouteLLM (arXiv 2406.18665), sections 2 and 5: labels of the benchmark itself train the
router, the other questions judge it; APGR and CPT as in `eval.metrics`. Deviations: a mean over
several draws of the labels, with an interval that covers draws and questions; the paper has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from composer.protocols import Encoder, FittedRouter
from composer.suggest import unknown_name
from eval.metrics import (
    StrongWeakCurve,
    StrongWeakRun,
    apgr,
    bootstrap_strong_weak,
    cpt,
    interval,
    strong_weak_curve,
)
from eval.replay.methods import ROUTERS, check_is_router, parse
from eval.replay.pair_folder import load_preference, save_preference
from eval.replay.run_folder import RunFolder
from routers import FITTED, make_fitted_router

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

RUNGS = ("random", "category-expert", "oracle")
"""`random`: no preference. `category-expert`: the mean gain in the question's category, which is
told to it. `oracle`: the gain itself."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of the labels; columns are the strong and the weak expert."""

    labels: OutcomeTable
    judged: OutcomeTable


@dataclass(frozen=True, slots=True)
class PairRow:
    """One method between a strong and a weak expert."""

    method: str
    prefix: str
    labels: int
    n_seeds: int
    n: int
    """Questions that judge, in each draw."""
    apgr: float
    """Mean over the draws."""
    apgr_ci95: tuple[float, float]
    """Over draws and questions."""
    apgr_by_seed: tuple[float, ...]
    cpt50: float
    """Share of strong calls that recovers half of the gap, on the mean curve of the draws."""
    cpt80: float
    category: str
    """Whether the method is told the question's category: `hidden` or `known`."""
    curve: StrongWeakCurve
    """Mean over the draws."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is unknown is null."""
        row = asdict(self)
        row["curve"] = {key: [_or_null(v) for v in vs] for key, vs in row["curve"].items()}
        row["apgr_ci95"] = [_or_null(end) for end in self.apgr_ci95]
        row["apgr_by_seed"] = [_or_null(value) for value in self.apgr_by_seed]
        for key in ("apgr", "cpt50", "cpt80"):
            row[key] = _or_null(row[key])
        return row


def make_draws(
    table: OutcomeTable,
    *,
    strong: str,
    weak: str,
    prefix: str = "",
    n_labels: int | None = None,
    n_seeds: int = 5,
) -> tuple[Draw, ...]:
    """Draw the labels, once a seed; all the rest judges.

    Args:
        table: Recorded outcomes; flagged rows are left out, splits do not matter.
        strong: The expert that is called more often or less.
        weak: The one that answers otherwise.
        prefix: Only categories that begin so.
        n_labels: Questions that train; None: half of them.
        n_seeds: Draws.

    Raises:
        ConfigError: An expert is unknown, or the questions are too few.
    """
    if strong == weak:
        raise ConfigError(f"strong and weak are both {strong!r}; name two experts")
    pair = table.with_experts([strong, weak])
    begins = np.array([(q.category or "").startswith(prefix) for q in pair.queries], np.bool_)
    if not begins.any():
        raise ConfigError(f"{table.name}: {unknown_name('category', prefix, table.categories)}")
    known = np.asarray(~np.isnan(pair.score).any(axis=1))
    pair = pair.rows(begins & ~pair.is_flagged & known)
    n = len(pair.queries)
    if n < 2:
        raise ConfigError(
            f"{table.name}: {n} questions with prefix {prefix!r} that both experts were asked, "
            "flagged ones left out, are too few to learn from and to judge by; record more"
        )
    n_labels = n // 2 if n_labels is None else n_labels
    if not 0 < n_labels < n:
        raise ConfigError(
            f"{table.name}: {n_labels} labels of {n} questions with prefix {prefix!r} leave none "
            f"to learn from or to judge by; give 1 to {n - 1}"
        )
    # Drawn from the sorted ids: the order of the file does not matter.
    order = np.argsort(np.array([query.id for query in pair.queries]), kind="stable")
    draws: list[Draw] = []
    for seed in range(n_seeds):
        chosen = np.random.default_rng(seed).choice(n, n_labels, replace=False)
        is_label = np.isin(np.arange(n), chosen)
        draws.append(Draw(pair.rows(order[is_label]), pair.rows(order[~is_label])))
    return tuple(draws)


def judge_pair(
    name: str,
    draws: Sequence[Draw],
    encoder: Encoder,
    *,
    prefix: str = "",
    known_category: bool = False,
    n_resamples: int = 2000,
    run: RunFolder | None = None,
    on_draw: Callable[[], None] = lambda: None,
) -> PairRow:
    """One method's row.

    Args:
        name: A rung, or a router with its settings in brackets.
        draws: Of `make_draws`.
        encoder: What routers embed questions with.
        prefix: Said in the row.
        known_category: Tell the router the categories.
        n_resamples: Behind the interval.
        run: Where preferences are kept, and found again; None: nowhere.
        on_draw: Called after each draw.

    Raises:
        ConfigError: There is no such method, or it cannot be fitted.
    """
    everything = (*draws[0].judged.queries, *draws[0].labels.queries)
    number = {query.id: i for i, query in enumerate(everything)}
    names = sorted({query.category or "" for query in everything})
    categories = {category: i for i, category in enumerate(names)}
    told = known_category or name == "category-expert"
    runs: list[StrongWeakRun] = []
    for seed, draw in enumerate(draws):
        queries = draw.judged.queries
        strong, weak = draw.judged.score.T.astype(np.float64)
        preference = None if run is None else load_preference(run, seed, name)
        if preference is None:
            preference = _preference(name, draw, encoder, known_category=told)
            if run is not None:
                save_preference(run, seed, name, draw.judged, preference)
        runs.append(
            StrongWeakRun(
                preference,
                strong,
                weak,
                np.array([number[query.id] for query in queries]),
                np.array([categories[query.category or ""] for query in queries]),
            )
        )
        on_draw()
    curves = [strong_weak_curve(run.p_strong, run.strong, run.weak) for run in runs]
    mean = StrongWeakCurve(
        np.mean([curve.strong_share for curve in curves], axis=0),
        np.mean([curve.accuracy for curve in curves], axis=0),
    )
    low, high = interval(bootstrap_strong_weak(runs, n_resamples=n_resamples))
    by_seed = tuple(apgr(curve) for curve in curves)
    return PairRow(
        name,
        prefix,
        len(draws[0].labels.queries),
        len(draws),
        len(draws[0].judged.queries),
        float(np.mean(by_seed)),
        (float(low), float(high)),
        by_seed,
        cpt(mean, 0.5),
        cpt(mean, 0.8),
        "known" if told else "hidden",
        mean,
    )


def pair_methods(encoder: Encoder) -> list[str]:
    """The names that are run unless others are asked for: routers that need the text alone."""
    routers = [name for name in ROUTERS if not make_fitted_router(name, {}, encoder=encoder).needs]
    return ["random", "category-expert", *routers, "oracle"]


def check_method(name: str, encoder: Encoder) -> None:
    """Refuse a name that `judge_pair` would refuse.

    Raises:
        ConfigError: There is no such method, or a setting is unknown or wrong.
    """
    if name not in RUNGS:
        _make_router(name, encoder)


def _make_router(name: str, encoder: Encoder) -> FittedRouter:
    kind, settings = ("prior", {}) if name == "category-expert" else parse(name)
    check_is_router(kind, [*RUNGS, *FITTED])
    return make_fitted_router(kind, settings, encoder=encoder)


def _preference(name: str, draw: Draw, encoder: Encoder, *, known_category: bool) -> Float64Array:
    """A method's preference for the strong expert [n], higher is more."""
    strong, weak = draw.judged.score.T.astype(np.float64)
    if name == "random":
        return np.zeros(len(strong))
    if name == "oracle":
        return strong - weak
    router = _make_router(name, encoder).fit(draw.labels)
    queries = draw.judged.to_queries(with_category=known_category)
    scores = router.score(queries, [query.annotation for query in draw.judged.queries])
    columns = [scores.experts.index(expert) for expert in draw.judged.names]
    quality = scores.quality[:, columns].astype(np.float64)
    return quality[:, 0] - quality[:, 1]


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
