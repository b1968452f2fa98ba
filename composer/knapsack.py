"""The multiple-choice knapsack problem: one expert a query, most quality, one bound on the cost.

    maximise    sum of quality[i, expert of i]
    subject to  sum of cost[i, expert of i] <= limit

Lagrangian relaxation: at a multiplier w each query takes its greatest quality - w * cost by itself,
and for every w >= 0

    sum of max_j (quality_ij - w * cost_ij) + w * limit

is at least what any assignment within the limit reaches. The w of the lowest such bound is searched
for between an assignment over the limit and one within it; what the latter leaves of the limit is
spent on the changes that add most quality per cost.

Sources: Kellerer, Pferschy and Pisinger, "Knapsack Problems" (2004), chapter 11; Everett 1963,
"Generalized Lagrange multiplier method". Deviation: the interval of w is not halved but cut where
the lines of its two ends meet (Handler and Zang 1980): the bound is piecewise linear in w, so the
search ends at its lowest point, without an upper end to guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]
    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]

_TOLERANCE = 1e-9
"""Of summed quality: lines that are so near at a point meet there."""
_MOST_CUTS = 200
_SOLVER_SCALE = 1e3
"""The solver lets a bound be passed by 1e-6: by 1e-9 of a limit that is scaled to this."""


@dataclass(frozen=True, eq=False, slots=True)
class Assignment:
    """Who gets which query, and how good that can be at all."""

    columns: Int64Array
    """[n]."""
    quality: float
    """Summed."""
    cost: float
    """Summed."""
    bound: float
    """No assignment within the limit has more quality."""
    multiplier: float
    """Quality per cost, at which the bound of the relaxation is lowest; 0: the limit is slack."""


def least_cost(cost: Float64Array, may: BoolArray) -> float:
    """The least summed cost of any assignment; arguments as `assign`."""
    return float(np.where(may, cost, np.inf).min(axis=1).sum())


def assign(
    quality: Float64Array, cost: Float64Array, may: BoolArray, limit: float, *, exact: bool = False
) -> Assignment:
    """Assign an expert to every query.

    Of experts equally good for a query it gets the cheapest, then the earlier column.

    Args:
        quality: [n, m], finite.
        cost: [n, m]; finite and at least 0 where one may be chosen.
        may: Who may be chosen, [n, m]; somebody in every row.
        limit: Of the summed cost; at least `least_cost`.
        exact: Solve the integer programme; it may take long.
    """
    # By place: each row's experts from the cheapest on, of equal cost from the best on.
    columns = np.lexsort((-quality, np.where(may, cost, np.inf)), axis=1)
    problem = _Problem(
        np.take_along_axis(np.where(may, quality, -np.inf), columns, axis=1),
        np.take_along_axis(np.where(may, cost, 0.0), columns, axis=1),
    )
    places, multiplier, bound = _relax(problem, limit)
    places = _spend_rest(problem, places, limit)
    if exact and multiplier > 0:
        places, bound = _solve(problem, limit)
    gained, spent = problem.gained(places), problem.spent(places)
    chosen = columns[np.arange(len(places)), places]
    return Assignment(chosen, gained, spent, max(bound, gained), multiplier)


@dataclass(frozen=True, eq=False, slots=True)
class _Problem:
    """n queries and their experts by place."""

    quality: Float64Array
    """[n, m]; -inf: it may not be chosen."""
    cost: Float64Array
    """[n, m]."""

    def best(self, multiplier: float) -> Int64Array:
        """The places [n] of most quality less cost; of equals the first, which is the cheapest."""
        return np.argmax(self.quality - multiplier * self.cost, axis=1)

    def gained(self, places: Int64Array) -> float:
        """Their quality."""
        return float(self.quality[np.arange(len(places)), places].sum())

    def spent(self, places: Int64Array) -> float:
        """Their cost."""
        return float(self.cost[np.arange(len(places)), places].sum())


def _relax(problem: _Problem, limit: float) -> tuple[Int64Array, float, float]:
    """Places within the limit, and the multiplier of the lowest bound, and that bound."""
    over, within = problem.best(0.0), np.zeros(len(problem.cost), np.int64)
    multiplier, bound = 0.0, problem.gained(over)
    if problem.spent(over) <= limit:
        return over, multiplier, bound
    for _ in range(_MOST_CUTS):
        lost = problem.gained(over) - problem.gained(within)
        cut = lost / (problem.spent(over) - problem.spent(within))
        places = problem.best(cut)
        value = problem.gained(places) - cut * problem.spent(places)
        bound, multiplier = min((bound, multiplier), (value + cut * limit, cut))
        # Both ends' lines meet at the cut. Where no line lies above them, the bound is lowest.
        if value <= problem.gained(over) - cut * problem.spent(over) + _TOLERANCE:
            break
        if problem.spent(places) > limit:
            over = places
        else:
            within = places
    return within, multiplier, bound


def _spend_rest(problem: _Problem, places: Int64Array, limit: float) -> Int64Array:
    """The places after the changes that add most quality per cost, as long as one fits."""
    places, left = places.copy(), limit - problem.spent(places)
    every = np.arange(len(places))
    while True:
        gain = problem.quality - problem.quality[every, places][:, None]
        extra = problem.cost - problem.cost[every, places][:, None]
        rows, to = np.nonzero((gain > 0) & (extra <= left))
        if not len(rows):
            return places
        gains, extras = gain[rows, to], extra[rows, to]
        order = np.argsort(-gains / extras, kind="stable")
        steps = zip(rows[order].tolist(), to[order].tolist(), extras[order].tolist(), strict=True)
        changed: set[int] = set()
        for row, place, price in steps:
            if row not in changed and price <= left:
                places[row] = place
                left -= price
                changed.add(row)


def _solve(problem: _Problem, limit: float) -> tuple[Int64Array, float]:
    """The best places by mixed-integer programming, and the solver's own bound."""
    from scipy import optimize, sparse  # pyright: ignore[reportMissingTypeStubs]

    milp, constraint = cast("Any", optimize).milp, cast("Any", optimize).LinearConstraint
    rows, to = np.nonzero(np.isfinite(problem.quality) & (problem.cost <= limit))
    quality, cost = problem.quality[rows, to], problem.cost[rows, to]
    cells = np.arange(len(rows))
    one_each = cast("Any", sparse).csr_array((np.ones(len(rows)), (rows, cells)))
    scale = _SOLVER_SCALE / limit if limit > 0 else 1.0
    solved = milp(
        -quality,
        integrality=np.ones(len(rows)),
        bounds=(0, 1),
        constraints=[
            constraint(one_each, 1, 1),
            constraint(scale * cost[None], -np.inf, scale * limit),
        ],
        options={"mip_rel_gap": 0},
    )
    is_taken = solved.x > 0.5
    places = np.zeros(len(problem.cost), np.int64)
    places[rows[is_taken]] = to[is_taken]
    return places, -float(solved.mip_dual_bound)
