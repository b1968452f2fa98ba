"""Where a composition's gain comes from: choosing an expert, or making something of several.

Four answers to each query stand on the way from the best single expert B to the oracle O, the best
of all experts: that of F, the expert which the router put first, alone; that of the composition, C;
and T, the best of the experts whose answers C had to work with. All but C's are the experts' own
recorded answers.

    gain = C - B         = routing + aggregation
    routing = F - B        what the choice of one expert is worth
    aggregation = C - F    what the aggregator made of it
                         = potential - unused
    potential = T - F      what picking the best of those asked would add: recall at k
    unused = T - C         of that, what was not made use of; below 0: it did better than all asked
    missed = O - T         what none of those asked knew, and another expert did
    gap = O - C          = unused + missed
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from composer.outcomes import OutcomeTable
from eval.metrics import accuracy, interval, oracle_score, resample_means
from eval.replay.rows import N_RESAMPLES, has_intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

TERMS = ("accuracy", "gain", "routing", "aggregation", "potential", "unused", "missed", "gap")


class Term(NamedTuple):
    """A mean over queries and its 95 % interval; ends are NaN where too few queries tell of it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """What a method did with the n queries of a table."""

    method: str
    score: Float64Array
    """[n] in [0, 1]; NaN: unknown."""
    first: Sequence[str | None]
    """The router's first choice for each query; None: it refused the query, which scores 0."""
    panel: Sequence[Sequence[str]]
    """Whose answers it had to work with; nobody: 0."""
    samples: float
    """Answers that experts gave of their own, a query in the mean."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where one method's accuracy comes from; all terms are of the same queries."""

    method: str
    n: int
    """Queries on which all four answers are known."""
    n_unknown: int
    """Queries on which one is not: in no term."""
    samples: float
    """See `Made`."""
    terms: Mapping[str, Term]
    """By the names of `TERMS`."""

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is unknown is null."""
        return {
            "method": self.method,
            "n": self.n,
            "n_unknown": self.n_unknown,
            "samples": plain_number(self.samples),
            "terms": {
                name: [plain_number(each) for each in term] for name, term in self.terms.items()
            },
        }


def read_attribution(values: Mapping[str, Any]) -> Attribution:
    """An attribution of its JSON form."""
    terms = {name: Term(*map(_number, values["terms"][name])) for name in TERMS}
    return Attribution(
        values["method"], values["n"], values["n_unknown"], _number(values["samples"]), terms
    )


def attribute(
    table: OutcomeTable,
    best_single: Float64Array,
    made: Sequence[Made],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> list[Attribution]:
    """Take the accuracy of methods apart.

    The best of several experts is the best known score among them. A query is left out of all terms
    of a method where its own score is not known, nor that of the best single expert, of its first
    choice, or of any expert that it asked.

    Args:
        table: The experts' own answers to the n queries.
        best_single: The score of the best single expert [n].
        made: What the methods did.
        seed: Of the resampling, which is one for all terms and methods, so that all are paired.
        n_resamples: B.
    """
    if not made:
        return []
    columns = [_terms(table, best_single, each) for each in made]
    values = np.concatenate(columns, axis=1)
    resampled = resample_means(values, table.category_codes, n_resamples, seed)
    low, high = interval(resampled.micro())
    if not has_intervals(resampled):
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    found: list[Attribution] = []
    for place, (each, terms) in enumerate(zip(made, columns, strict=True)):
        n_known = int(np.count_nonzero(~np.isnan(terms[:, 0])))
        first = place * len(TERMS)
        told = {
            name: Term(accuracy(terms[:, i]), float(low[first + i]), float(high[first + i]))
            for i, name in enumerate(TERMS)
        }
        found.append(Attribution(each.method, n_known, len(terms) - n_known, each.samples, told))
    return found


def _terms(table: OutcomeTable, best: Float64Array, made: Made) -> Float64Array:
    """The terms of each query [n, t], in the order of `TERMS`; NaN: unknown, as is all its row."""
    score = table.score.astype(np.float64)
    column = {name: i for i, name in enumerate(table.names)}
    alone = [() if name is None else (name,) for name in made.first]
    first, top = (
        np.array([_best(row, column, names) for row, names in zip(score, asked, strict=True)])
        for asked in (alone, made.panel)
    )
    oracle = oracle_score(score)
    own = made.score
    terms = np.stack(
        [
            own,
            own - best,
            first - best,
            own - first,
            top - first,
            top - own,
            oracle - top,
            oracle - own,
        ],
        axis=1,
    )
    terms[np.isnan(terms).any(axis=1)] = np.nan
    return terms


def _best(score: Float64Array, column: Mapping[str, int], experts: Sequence[str]) -> float:
    """The best known score of some experts; 0 of nobody, NaN where none is known."""
    if not experts:
        return 0.0
    known = [float(score[column[name]]) for name in experts if name in column]
    return max((each for each in known if not math.isnan(each)), default=math.nan)


def plain_number(value: float) -> float | None:
    """A number for JSON; what is unknown is null."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
