"""How many requests a query costs with a judge: what a budget is planned with. Pure.

They hold where no expert fails. Judgements that are drawn together (`samples`) are one request.
"""

from __future__ import annotations

from collections.abc import Sequence

from composer.aggregators.judge.settings import Mode
from composer.aggregators.judge.tournament import comparisons, most_comparisons


def judgement_calls(mode: Mode, n_proposals: int, order: Sequence[int] | None = None) -> int:
    """Requests to the judge for c proposals: 0 for one; c, pointwise; 2 a comparison, pairwise.

    Args:
        mode: Of the aggregator.
        n_proposals: c.
        order: The proposals 0..c-1 as the judge put them, which says how many comparisons a
            tournament took; None: the most that it can take.
    """
    if n_proposals < 2:
        return 0
    if mode == "pointwise":
        return n_proposals
    return 2 * (most_comparisons(n_proposals) if order is None else comparisons(order))


def judge_calls(
    mode: Mode, k: int, *, n: int | None = None, order: Sequence[int] | None = None
) -> int:
    """Requests of `judge`: k proposals, or one request for n of them, and the judgements."""
    return (k if n is None else 1) + judgement_calls(mode, k if n is None else n, order)


def rank_and_fuse_calls(mode: Mode, k: int, *, order: Sequence[int] | None = None) -> int:
    """Requests of `rank-and-fuse`: k proposals, the judgements, and one that fuses if k > 1."""
    return k + judgement_calls(mode, k, order) + (k > 1)


def refine_calls(k: int, rounds: int) -> int:
    """Requests of `refine`: in each round k proposals and k scores."""
    return 2 * k * rounds
