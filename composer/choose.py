"""Scores -> selections: the one place where experts are chosen. Pure; batch first.

The utility of an expert for a query is

    predicted quality - cost_weight * cost in USD - load_weight * seconds until it is loaded

and the k experts of highest utility are taken (ties: the earlier column). An expert of unknown
quality is never taken for a wrong one and never taken before a known one: it only closes the
ranking that failures fall back along. A query that no expert is to answer gets a selection without
choices. `composer.allocate` chooses for a whole batch under one budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from composer.errors import RoutingError
from composer.types import (
    Choice,
    Counterfactual,
    Evidence,
    Scores,
    Selection,
    no_counterfactuals,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from composer.experts import ChooseRule
    from composer.types import Float32Array

    BoolArray = NDArray[np.bool_]

NOTHING_KNOWN = "nothing is known of any expert here"
"""Why a fallback takes a query that the router cannot place."""


def choose(
    scores: Scores,
    query_ids: Sequence[str],
    rule: ChooseRule,
    *,
    router: str,
    cost_usd: Float32Array | None = None,
    load_s: Float32Array | None = None,
    unavailable: Collection[str] = (),
) -> list[Selection]:
    """Choose experts for a batch of queries.

    Args:
        scores: Of n queries and m experts.
        query_ids: n of them.
        rule: k, weights, threshold, fallback, and whether to abstain.
        router: Whose scores these are.
        cost_usd: Expected cost [n, m] in USD of asking each expert; None: 0.
        load_s: Seconds [m] until each expert could start; None: 0.
        unavailable: Experts that cannot be asked now.

    Returns:
        One selection a query, in their order. One without choices refuses its query: nothing is
        known of any available expert, or the rule abstains.

    Raises:
        RoutingError: No expert is available.
    """
    import numpy as np

    from composer.counterfactual import counterfactuals

    utility = rule.utility(scores.quality, cost_usd, load_s)
    is_available = available_columns(scores, unavailable)
    known = np.isfinite(utility) & is_available
    order = np.argsort(np.where(known, -utility, np.inf), axis=1, kind="stable")
    n_known: list[int] = known.sum(axis=1).tolist()
    best = np.where(known, scores.quality, -np.inf).max(axis=1)
    fallback = fallback_column(scores, rule.fallback, unavailable)
    can_ask: list[bool] = is_available.tolist()

    selections: list[Selection] = []
    for row, query_id in enumerate(query_ids):
        utilities: list[float] = utility[row].tolist()
        columns: list[int] = order[row].tolist()
        ranked = [c for c in columns if can_ask[c]]
        n_picked = min(rule.k, max(1, n_known[row]))
        doubt = _doubt(rule, float(best[row]))
        what_if = no_counterfactuals
        if doubt is not None and fallback is not None:
            ranked = [fallback, *(c for c in ranked if c != fallback)]
            reason = f"fallback {rule.fallback!r}: {doubt}"
        elif n_known[row] == 0:
            reason, ranked = nothing_known(router), []
        elif doubt is not None and rule.abstain:
            reason = f"abstained: {doubt}; lower choose.threshold or set choose.fallback"
            ranked = []
        else:
            reason = f"the {n_picked} best by {router}" if rule.k > 1 else f"best by {router}"
            reason += _tie([utilities[c] for c in ranked], n_picked)
            what_if = partial(
                counterfactuals,
                scores,
                row,
                rule,
                cost_usd=cost_usd,
                load_s=load_s,
                unavailable=unavailable,
            )
        selections.append(
            make_selection(
                scores,
                row,
                query_id,
                router,
                ranked=ranked,
                n_picked=n_picked,
                utility=utilities,
                reason=reason,
                shortfall=_shortfall(rule.k, n_picked, scores.experts, unavailable),
                what_if=what_if,
            )
        )
    return selections


def make_selection(
    scores: Scores,
    row: int,
    query_id: str,
    router: str,
    *,
    ranked: Sequence[int],
    n_picked: int,
    utility: Sequence[float],
    reason: str,
    shortfall: str | None = None,
    what_if: Callable[[], tuple[Counterfactual, ...]] = no_counterfactuals,
) -> Selection:
    """The selection of the first of some ranked experts.

    Args:
        scores: Of all queries.
        row: The query's.
        query_id: The query's.
        router: Whose scores these are.
        ranked: Columns of all experts that may be asked: the first choice, then the others by
            utility, the unknown last. Empty: the query is refused.
        n_picked: How many of them are chosen, if any.
        utility: Of every expert [m]; NaN: unknown.
        reason: Why they, or why nobody.
        shortfall: See `Selection.shortfall`.
        what_if: See `Selection.what_if`.
    """
    return Selection(
        query_id,
        router,
        tuple(_choice(scores, row, c, utility[c]) for c in ranked[:n_picked]),
        tuple(scores.experts[c] for c in ranked),
        scores.experts,
        scores.quality[row],  # pyright: ignore[reportArgumentType] - a float32 row is a sequence
        reason,
        shortfall if ranked else None,
        _margin(utility, ranked),
        what_if,
    )


def available_columns(scores: Scores, unavailable: Collection[str]) -> BoolArray:
    """Which experts can be asked, [m].

    Raises:
        RoutingError: None can.
    """
    import numpy as np

    is_available = np.array([name not in unavailable for name in scores.experts], dtype=bool)
    if not is_available.any():
        raise RoutingError(f"none of the experts {list(scores.experts)} is available now")
    return is_available


def fallback_column(
    scores: Scores, fallback: str | None, unavailable: Collection[str]
) -> int | None:
    """The fallback's column; None: there is none that can be asked."""
    if fallback is None or fallback in unavailable or fallback not in scores.experts:
        return None
    return scores.experts.index(fallback)


def nothing_known(router: str) -> str:
    """Why a query is refused of which the router knows nothing, and what would help."""
    return (
        f"the router {router!r} knows nothing of any available expert; give experts examples or a "
        "description, or set choose.fallback"
    )


def _doubt(rule: ChooseRule, best: float) -> str | None:
    """Why the router's own choice is in doubt; None: it holds.

    Args:
        rule: With the threshold.
        best: The best predicted quality; -inf: none is known.
    """
    if best == -math.inf:
        return NOTHING_KNOWN
    if rule.threshold is not None and best < rule.threshold:
        return f"the best predicted quality {best:.3f} is below the threshold {rule.threshold:.3f}"
    return None


def _tie(ranked_utility: Sequence[float], n_picked: int) -> str:
    """What to add where who is chosen hangs on the order of the columns."""
    last = ranked_utility[n_picked - 1]
    n_equal = ranked_utility[n_picked:].count(last)
    return f", tied with {n_equal} {'other' if n_equal == 1 else 'others'}" if n_equal else ""


def _margin(utility: Sequence[float], ranked: Sequence[int]) -> float | None:
    if len(ranked) < 2:
        return None
    margin = utility[ranked[0]] - utility[ranked[1]]
    return margin if math.isfinite(margin) else None


def _choice(scores: Scores, row: int, column: int, utility: float) -> Choice:
    expert, quality = scores.experts[column], float(scores.quality[row, column])
    if math.isnan(quality):
        return Choice(expert, None, None, lambda: Evidence("nothing is known of it here"))
    known_utility = utility if math.isfinite(utility) else None
    return Choice(expert, quality, known_utility, partial(scores.why, row, column))


def _shortfall(
    k: int, n_picked: int, experts: Sequence[str], unavailable: Collection[str]
) -> str | None:
    if n_picked >= k:
        return None
    gone = [name for name in experts if name in unavailable]
    because = f"unavailable: {', '.join(gone)}" if gone else "the router knows no more"
    return f"{n_picked} of {k} experts: {because}"
