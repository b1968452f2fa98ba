"""Two methods on the queries that both were judged on, paired query by query."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr  # pyright: ignore[reportMissingTypeStubs]

from composer.errors import ConfigError
from eval.live.attribution import Term, plain_number
from eval.metrics import accuracy, interval, resample_means
from eval.replay.rows import N_RESAMPLES, has_intervals

AMOUNTS = ("accuracy", "cost_usd_per_1k", "tokens")


@dataclass(frozen=True, slots=True)
class Point:
    """A method on one query."""

    prompt: str
    category: str
    score: float
    """In [0, 1]; NaN: unknown, as with the next two."""
    cost_usd: float
    tokens: float
    """Of the prompts and completions of all that was asked."""


@dataclass(frozen=True, slots=True)
class Side:
    """A method on all of its queries."""

    name: str
    points: Mapping[str, Point]
    """By query id."""


@dataclass(frozen=True, slots=True)
class Versus:
    """A mean of both, and of the difference a - b, over the queries where both are known."""

    a: Term
    b: Term
    difference: Term


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it."""

    a: str
    b: str
    n: int
    """Shared queries on which both scores are known."""
    n_unknown: int
    """Shared queries on which one is not: in no figure, as are those of the next two."""
    only_a: int
    only_b: int
    """Queries that the other was not judged on."""
    wins: int
    """Queries on which a scored more."""
    losses: int
    ties: int
    p_mcnemar: float
    """Two-sided, exact: how likely wins and losses differ as much if either is as likely."""
    amounts: Mapping[str, Versus]
    """By the names of `AMOUNTS`: of a query, of 1,000 queries, of a query."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is unknown is null."""
        return {
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "n_unknown": self.n_unknown,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "p_mcnemar": self.p_mcnemar,
            "amounts": {
                name: {
                    side: [plain_number(each) for each in term]
                    for side, term in (("a", v.a), ("b", v.b), ("difference", v.difference))
                }
                for name, v in self.amounts.items()
            },
        }


def compare(a: Side, b: Side, *, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Comparison:
    """Compare two methods on the queries that they share.

    Intervals are of one bootstrap of these queries within their categories, so that differences are
    paired.

    Args:
        a: One method.
        b: The other.
        seed: Of the resampling.
        n_resamples: B.

    Raises:
        ConfigError: They share no query of known scores, or one id stands for two prompts.
    """
    shared = [query_id for query_id in a.points if query_id in b.points]
    _check(a, b, shared)
    pairs = [(a.points[query_id], b.points[query_id]) for query_id in shared]
    known = [(x, y) for x, y in pairs if not math.isnan(x.score - y.score)]
    if not known:
        raise ConfigError(
            f"on each of the {len(shared)} queries that {a.name!r} and {b.name!r} share a score is "
            "unknown; ask the experts again"
        )
    difference = np.array([x.score - y.score for x, y in known])
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return Comparison(
        a.name,
        b.name,
        n=len(known),
        n_unknown=len(pairs) - len(known),
        only_a=len(a.points) - len(shared),
        only_b=len(b.points) - len(shared),
        wins=wins,
        losses=losses,
        ties=len(known) - wins - losses,
        p_mcnemar=mcnemar(wins, losses),
        amounts=_amounts(known, seed, n_resamples),
    )


def mcnemar(wins: int, losses: int) -> float:
    """The p-value of McNemar's exact test, two-sided; 1 where there is neither.

    Where scores are 0 or 1, wins and losses are the discordant pairs; else this is the sign test.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12, 1947, in its exact form: the binomial test of wins among
    wins and losses at 1/2, where both tails are alike.
    """
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def _check(a: Side, b: Side, shared: Sequence[str]) -> None:
    if not shared:
        raise ConfigError(
            f"{a.name!r} was judged on {len(a.points)} queries and {b.name!r} on {len(b.points)}, "
            "and no id is among both; compare runs on the same questions"
        )
    if other := [i for i in shared if a.points[i].prompt != b.points[i].prompt]:
        raise ConfigError(
            f"{len(other)} of {len(shared)} ids that {a.name!r} and {b.name!r} share stand for "
            f"other prompts, the first {other[0]!r}; compare runs on the same questions"
        )


def _amounts(
    pairs: Sequence[tuple[Point, Point]], seed: int, n_resamples: int
) -> dict[str, Versus]:
    sides = [np.array([_values(pair[side]) for pair in pairs]) for side in (0, 1)]
    is_unknown = np.isnan(sides[0] - sides[1])
    for side in sides:
        side[is_unknown] = np.nan
    values = np.concatenate([*sides, sides[0] - sides[1]], axis=1)
    categories = sorted({x.category for x, _ in pairs})
    strata = np.array([categories.index(x.category) for x, _ in pairs], np.int64)
    resampled = resample_means(values, strata, n_resamples, seed)
    low, high = interval(resampled.micro())
    if not has_intervals(resampled):
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    means = [accuracy(column) for column in values.T]
    terms = [Term(m, float(lo), float(hi)) for m, lo, hi in zip(means, low, high, strict=True)]
    n = len(AMOUNTS)
    return {name: Versus(*terms[i::n]) for i, name in enumerate(AMOUNTS)}


def _values(point: Point) -> tuple[float, ...]:
    """In the order of `AMOUNTS`."""
    return point.score, 1000 * point.cost_usd, point.tokens
