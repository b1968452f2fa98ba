"""One expert for each query of a batch, so that predicted quality is highest under one budget.

`choose` decides query by query; here they share what may be spent, and a query gets a dear expert
where it gains most for the money. The multiplier found, in quality per unit of cost, is the
`cost_weight` with which `choose` does the same online.

Source: the multiple-choice knapsack problem, see `composer.knapsack`; a joint budget for routing a
batch is set up in this way by OmniRouter (arXiv 2502.20576). Deviation: it holds a constraint on
quality and minimises the cost; here the cost is held and quality is maximised.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from composer.choose import (
    NOTHING_KNOWN,
    available_columns,
    fallback_column,
    make_selection,
    nothing_known,
)
from composer.errors import ConfigError
from composer.knapsack import assign, least_cost
from composer.suggest import unknown_name
from composer.types import Scores, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    BoolArray = NDArray[np.bool_]
    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]

BudgetKind = Literal["usd", "tokens", "active_params_b"]
AllocationMethod = Literal["lagrangian", "exact"]
_UNITS = {"usd": "USD", "tokens": "tokens", "active_params_b": "billion active parameters"}
_PER = {"usd": "USD (the cost_weight)", "tokens": "token", "active_params_b": "billion"}
PRECISION = 1e-9
"""Relative: amounts that differ by less are the same, as sums in another order do."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a batch may cost.

    Raises:
        ConfigError: There is no such kind, or the amount is no number from 0.
    """

    kind: BudgetKind
    amount: float
    """US dollars or tokens: of the whole batch. Billions of active parameters: on average over the
    queries that get an expert."""

    def __post_init__(self) -> None:
        if self.kind not in _UNITS:
            raise ConfigError(unknown_name("kind of budget", self.kind, _UNITS))
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise ConfigError(f"the budget's amount is {self.amount!r}; give a number from 0")

    @property
    def is_mean(self) -> bool:
        """Whether the amount is an average over queries."""
        return self.kind == "active_params_b"

    def at(self, multiplier: float) -> str:
        """On what terms it is shared: the quality that one unit of cost has to be worth."""
        return f"at {multiplier:.4g} quality per {_PER[self.kind]}, within {self}"

    def __str__(self) -> str:
        return f"{self.amount:g} {_UNITS[self.kind]} {'a query' if self.is_mean else 'in all'}"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Who answers which query of a batch, and how good that can be at all."""

    selections: tuple[Selection, ...]
    """One a query, in their order; without choices where nothing is known."""
    budget: Budget
    spent: float
    """In the budget's unit, and as it: a total, or a mean."""
    quality: float
    """The sum of the predicted qualities of the choices; unknown ones add nothing."""
    bound: float
    """No assignment within the budget has a greater sum."""
    multiplier: float
    """Quality per unit of cost. A budget in USD: the `cost_weight` at which `choose` makes the
    same choices, but for ties and what the rest of the budget was spent on."""

    @property
    def gap(self) -> float:
        """At most so much is missing to the best assignment, in summed quality."""
        return self.bound - self.quality


@dataclass(frozen=True, eq=False, slots=True)
class Allotment:
    """What `allot` finds; see `Allocation`."""

    columns: Int64Array
    """The expert of each query [n]; -1: nobody."""
    spent: float
    quality: float
    bound: float
    multiplier: float


def allocate(
    scores: Scores,
    query_ids: Sequence[str],
    budget: Budget,
    *,
    router: str,
    cost: Float32Array | Float64Array,
    unavailable: Collection[str] = (),
    fallback: str | None = None,
    method: AllocationMethod = "lagrangian",
) -> Allocation:
    """Choose one expert for each query of a batch under a joint budget.

    Among experts equally good for a query the cheapest is taken, then the earlier column. Whom a
    ranking goes on to after a failure is not in the budget.

    Args:
        scores: Of n queries and m experts. An expert of unknown quality is not chosen.
        query_ids: n of them.
        budget: What they may cost together.
        router: Whose scores these are.
        cost: Expected cost [n, m] of asking each expert, in the budget's unit, a query. It must be
            known where the quality is.
        unavailable: Experts that cannot be asked now.
        fallback: Takes what nothing is known of; None: such a query is refused, at no cost.
        method: exact solves the integer programme, which may take minutes on large batches.

    Raises:
        ConfigError: No assignment keeps within the budget, a cost is unknown or negative, or there
            is no such method.
        RoutingError: No expert is available.
    """
    if method not in get_args(AllocationMethod):
        raise ConfigError(unknown_name("method of allocation", method, get_args(AllocationMethod)))
    costs = np.broadcast_to(cost, scores.quality.shape).astype(np.float64)
    known, may = _eligible(scores, fallback, unavailable)
    _check_costs(scores, query_ids, costs, may)
    found = allot(
        scores,
        budget,
        cost=costs,
        unavailable=unavailable,
        fallback=fallback,
        exact=method == "exact",
    )
    is_available = available_columns(scores, unavailable)
    costs = np.where(may, costs, 0.0)
    utility = np.where(known, scores.quality.astype(np.float64) - found.multiplier * costs, np.nan)
    order = np.argsort(np.where(known, -utility, np.inf), axis=1, kind="stable")
    selections: list[Selection] = []
    for row, query_id in enumerate(query_ids):
        others: list[int] = order[row].tolist()
        first = int(found.columns[row])
        ranked = [first, *(c for c in others if c != first and is_available[c])]
        if first < 0:
            ranked, reason = [], nothing_known(router)
        elif not known[row, first]:
            reason = f"fallback {fallback!r}: {NOTHING_KNOWN}"
        else:
            is_best = utility[row, first] >= utility[row, others[0]] - PRECISION
            better = "" if is_best else "fills the budget better than the "
            reason = f"{better}best by {router} {budget.at(found.multiplier)}"
        selections.append(
            make_selection(
                scores,
                row,
                query_id,
                router,
                ranked=ranked,
                n_picked=1,
                utility=utility[row].tolist(),
                reason=reason,
            )
        )
    return Allocation(
        tuple(selections),
        budget,
        spent=found.spent,
        quality=found.quality,
        bound=found.bound,
        multiplier=found.multiplier,
    )


def allot(
    scores: Scores,
    budget: Budget,
    *,
    cost: Float64Array,
    unavailable: Collection[str] = (),
    fallback: str | None = None,
    exact: bool = False,
) -> Allotment:
    """The columns that `allocate` chooses, without selections.

    Args:
        scores: See `allocate`, as are the others.
        budget: What they may cost together.
        cost: [n, m], finite and at least 0 wherever an expert may be chosen.
        unavailable: Experts that cannot be asked now.
        fallback: Takes what nothing is known of.
        exact: Solve the integer programme.

    Raises:
        ConfigError: No assignment keeps within the budget.
        RoutingError: No expert is available.
    """
    known, may = _eligible(scores, fallback, unavailable)
    rows = np.flatnonzero(may.any(axis=1))
    n_shares = max(1, len(rows)) if budget.is_mean else 1
    limit = budget.amount * n_shares * (1 + PRECISION)
    costs = np.where(may, cost, 0.0)[rows]
    least = least_cost(costs, may[rows])
    if least > limit:
        raise ConfigError(
            f"no assignment keeps within {budget}; give at least {_round_up(least / n_shares)}"
        )
    quality = np.where(known, scores.quality, 0.0).astype(np.float64)[rows]
    assigned = assign(quality, costs, may[rows], limit, exact=exact)
    columns = np.full(len(may), -1)
    columns[rows] = assigned.columns
    spent = assigned.cost / n_shares
    return Allotment(columns, spent, assigned.quality, assigned.bound, assigned.multiplier)


def _eligible(
    scores: Scores, fallback: str | None, unavailable: Collection[str]
) -> tuple[BoolArray, BoolArray]:
    """Whose quality is known, and who may be chosen, [n, m] each."""
    known = np.isfinite(scores.quality) & available_columns(scores, unavailable)
    stand_in = fallback_column(scores, fallback, unavailable)
    may = known.copy()
    if stand_in is not None:
        may[:, stand_in] |= ~known.any(axis=1)
    return known, may


def _check_costs(
    scores: Scores, query_ids: Sequence[str], cost: Float64Array, may: BoolArray
) -> None:
    wrong = np.argwhere(may & ~(np.isfinite(cost) & (cost >= 0)))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ConfigError(
            f"the cost of {scores.experts[column]!r} for query {query_ids[row]!r} is "
            f"{cost[row, column]:g} ({len(wrong)} such); give a number from 0 for every expert "
            "that may be chosen"
        )


def _round_up(amount: float) -> str:
    """Six digits, and no less: what is given as the least budget has to be one."""
    return f"{Context(prec=6, rounding=ROUND_CEILING).create_decimal(Decimal(amount)):g}"
