"""What the queries of a batch share: one budget, and experts that enough of them get.

Both are found once, over all scores, and kept: the choice for a query is made again from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from composer.allocate import PRECISION, Allotment, Budget, allot
from composer.bulk.limits import Limits
from composer.choose import choose, fallback_column, make_selection
from composer.errors import ConfigError
from composer.trim import rare_experts, trimmed, with_counts
from composer.types import Scores, Selection, no_counterfactuals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.experts import ChooseRule
    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]
    Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spending:
    """What came of a budget; see `composer.allocate.Allocation`."""

    budget: Budget
    spent: float
    """Expected, in the budget's unit."""
    bound: float
    """No assignment within the budget has a greater quality in the mean."""
    multiplier: float
    """Quality per unit of cost; in USD a `cost_weight`, and in the place of the composition's."""


@dataclass(frozen=True, slots=True)
class JointChoice:
    """What came of the limits of a batch."""

    quality: float
    """Predicted, of chosen experts, in the mean. Not of those of unknown quality, nor, under a
    budget, of a fallback."""
    given_up: float
    """How much that is below what would be chosen without limits, at any price."""
    min_share: float
    frequent: tuple[str, ...]
    """Experts that may be chosen."""
    rare: Mapping[str, int]
    """Experts left out, and how many choices each would have."""
    n_choices: int
    spending: Spending | None = None
    """None: there is no budget."""


def share_budget(
    scores: Scores, cost: Float64Array, rule: ChooseRule, limits: Limits
) -> tuple[Int64Array, JointChoice]:
    """The expert of each query of a batch under its limits, [n] columns; -1: nobody.

    A query that is below the rule's threshold is left to the fallback, at its cost, or to nobody. A
    rare expert is left out as by `composer.trim`, and keeps the queries of which it alone is
    known; then all is assigned anew, so that the budget holds, until nobody else is rare.

    Args:
        scores: Of n queries and m experts; a few copies in float64 are made.
        cost: Expected, of asking each expert [n, m], in the budget's unit.
        rule: Its weight of cost is not used: the budget's multiplier takes its place.
        limits: With a budget.

    Raises:
        ConfigError: No assignment keeps within the budget, no expert costs anything, or every
            expert is rare.
    """
    budget = limits.budget
    assert budget is not None, "there is one"
    if not cost.any():
        raise ConfigError(
            f"no expert has a price, so a budget of {budget} says nothing; set 'price' of experts "
            "in experts.yaml, or give a budget of tokens"
        )
    rare: dict[str, int] = {}
    while True:
        open_ = Scores(scores.experts, _open(scores, rule, rare), scores.why)
        try:
            found = allot(open_, budget, cost=cost, fallback=rule.fallback)
        except ConfigError as exc:
            if not rare:
                raise
            raise ConfigError(
                f"without {', '.join(map(repr, rare))}, rare at a least share of "
                f"{limits.min_share:g}, {exc}, or a lower share"
            ) from exc
        chosen = np.bincount(found.columns[found.columns >= 0], minlength=len(scores.experts))
        counts = {e: n for e, n in zip(scores.experts, chosen.tolist(), strict=True) if n}
        more = rare_experts(counts, limits.min_share)
        if more.keys() <= rare.keys():
            return found.columns, _summary(scores, open_, found, limits, rare, int(chosen.sum()))
        rare = more | rare


def _open(scores: Scores, rule: ChooseRule, rare: Collection[str]) -> Float32Array:
    """The qualities [n, m] of who may be chosen; NaN: the expert may not, or is unknown."""
    quality = np.array(scores.quality)
    known = ~np.isnan(quality)
    is_rare = np.array([name in rare for name in scores.experts], dtype=bool)
    is_spare = (known & ~is_rare).any(axis=1, keepdims=True)
    fallback = fallback_column(scores, rule.fallback, ())
    is_left = rule.abstain if fallback is None else rule.fallback not in rare
    if rule.threshold is not None and is_left:
        best = np.where(known, quality, -np.inf).max(axis=1)
        quality[best < rule.threshold] = np.nan
    quality[is_spare & is_rare] = np.nan
    return quality


def _summary(
    scores: Scores,
    open_: Scores,
    found: Allotment,
    limits: Limits,
    rare: Mapping[str, int],
    n_choices: int,
) -> JointChoice:
    assert limits.budget is not None, "there is one"
    decided = ~np.isnan(open_.quality).all(axis=1)
    n = max(1, int(decided.sum()))
    best = float(np.nanmax(scores.quality[decided], axis=1).sum(dtype=np.float64))
    return JointChoice(
        quality=found.quality / n,
        given_up=max(0.0, best - found.quality) / n,
        min_share=limits.min_share,
        frequent=tuple(name for name in scores.experts if name not in rare),
        rare=rare,
        n_choices=n_choices,
        spending=Spending(limits.budget, found.spent, found.bound / n, found.multiplier),
    )


def allotted(
    scores: Scores,
    query_id: str,
    rule: ChooseRule,
    joint: JointChoice,
    column: int,
    *,
    router: str,
    cost: Float64Array,
) -> Selection:
    """The selection of one query of a batch under a budget.

    Args:
        scores: Of the query alone.
        query_id: Its id.
        rule: As for `share_budget`.
        joint: What that found.
        column: The query's expert by it; -1: nobody.
        router: Whose scores these are.
        cost: As for `share_budget`, [1, m].
    """
    spending = joint.spending
    assert spending is not None, "there is a budget"
    rule = rule.model_copy(update={"cost_weight": spending.multiplier})
    (free,) = choose(scores, [query_id], rule, router=router, cost_usd=cost.astype(np.float32))
    if column < 0:
        return free
    expert, terms = scores.experts[column], spending.budget.at(spending.multiplier)
    if free.ranking[0] == expert:
        return replace(free, reason=f"{free.reason}; {terms}", what_if=no_counterfactuals)
    utility = (scores.quality - spending.multiplier * cost)[0].tolist()
    others = [scores.experts.index(name) for name in free.ranking if name != expert]
    rival = next((c for c in others if scores.experts[c] not in joint.rare), column)
    is_best = utility[column] >= utility[rival] - PRECISION
    reason = (
        f"best by {router}" if is_best else f"fills the budget better than the best by {router}"
    )
    if (first := free.ranking[0]) in joint.rare:
        reason += f"; without rare {with_counts([first], joint.rare, joint.n_choices)}"
    return make_selection(
        scores,
        0,
        query_id,
        router,
        ranked=[column, *others],
        n_picked=1,
        utility=utility,
        reason=f"{reason}; {terms}",
    )


def share_choices(selections: Callable[[], Iterable[Selection]], min_share: float) -> JointChoice:
    """Who is left out for having too few choices of a batch, without a budget.

    Args:
        selections: Of the whole batch, without limits; gone through twice.
        min_share: See `Limits`.

    Raises:
        ConfigError: Every expert is rare.
    """
    counts, before = _count(selections())
    rare = rare_experts(counts, min_share)
    frequent, total = tuple(name for name in counts if name not in rare), counts.total()
    after = before
    if rare:
        _, after = _count(trimmed(s, frequent, rare, total) for s in selections())
    return JointChoice(after, before - after, min_share, frequent, rare, total)


def _count(selections: Iterable[Selection]) -> tuple[Counter[str], float]:
    """How many choices each expert has, and the mean of their known qualities."""
    counts, quality, n_known = Counter[str](), 0.0, 0
    for selection in selections:
        for choice in selection.choices:
            counts[choice.expert] += 1
            if choice.quality is not None:
                quality += choice.quality
                n_known += 1
    return counts, quality / max(1, n_known)
