"""Scores -> selections: the one place where experts are chosen. Pure; batch first.

The utility of an expert for a query is

    predicted quality - cost_weight * cost in USD - load_weight * seconds until it is loaded

and the k experts of highest utility are taken (ties: the earlier column). An expert of unknown
quality is never taken for a wrong one and never taken before a known one: it only closes the
ranking that failures fall back along.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from composer.errors import RoutingError
from composer.types import Choice, Evidence, Scores, Selection

if TYPE_CHECKING:
    from composer.experts import ChooseRule
    from composer.types import Float32Array


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
        rule: k, weights, threshold and fallback.
        router: Whose scores these are.
        cost_usd: Expected cost [n, m] in USD of asking each expert; None: 0.
        load_s: Seconds [m] until each expert could start; None: 0.
        unavailable: Experts that cannot be asked now.

    Returns:
        One selection a query, in their order.

    Raises:
        RoutingError: No expert is available, or nothing is known of any and there is no fallback.
    """
    import numpy as np

    quality = np.asarray(scores.quality, dtype=np.float32)
    utility = quality.astype(np.float64)
    if cost_usd is not None and rule.cost_weight:
        utility = utility - rule.cost_weight * cost_usd
    if load_s is not None and rule.load_weight:
        utility = utility - rule.load_weight * load_s
    is_available = np.array([name not in unavailable for name in scores.experts], dtype=bool)
    if not is_available.any():
        raise RoutingError(f"none of the experts {list(scores.experts)} is available now")
    known = np.isfinite(utility) & is_available
    order = np.argsort(np.where(known, -utility, np.inf), axis=1, kind="stable")

    selections: list[Selection] = []
    for row, query_id in enumerate(query_ids):
        ranked = [int(c) for c in order[row] if is_available[c]]
        n_known = int(known[row].sum())
        fallback = _fallback(scores, rule, quality[row], known[row], unavailable)
        picked = ranked[: min(rule.k, n_known)]
        reason = f"the {len(picked)} best by {router}" if rule.k > 1 else f"best by {router}"
        if fallback is not None:
            column, reason = fallback
            ranked = [column, *(c for c in ranked if c != column)]
            picked = ranked[: min(rule.k, max(1, n_known))]
        if not picked:
            raise RoutingError(
                f"the router {router!r} knows nothing of any available expert; give experts "
                "examples or a description, or set choose.fallback"
            )
        selections.append(
            Selection(
                query_id,
                router,
                tuple(_choice(scores, row, c, utility[row, c]) for c in picked),
                tuple(scores.experts[c] for c in ranked),
                scores.experts,
                quality[row],  # pyright: ignore[reportArgumentType] - a float32 row is a sequence
                reason,
                _shortfall(rule.k, len(picked), scores.experts, unavailable),
            )
        )
    return selections


def _fallback(
    scores: Scores,
    rule: ChooseRule,
    quality: Float32Array,
    known: object,
    unavailable: Collection[str],
) -> tuple[int, str] | None:
    """The fallback's column and why it is taken; None: the router's own choice holds."""
    import numpy as np

    if rule.fallback is None or rule.fallback in unavailable:
        return None
    if rule.fallback not in scores.experts:
        return None
    column = scores.experts.index(rule.fallback)
    of_known = quality[np.asarray(known, dtype=bool)]
    if of_known.size == 0:
        return column, f"fallback {rule.fallback!r}: nothing is known of any expert here"
    best = float(of_known.max())
    if rule.threshold is not None and best < rule.threshold:
        return column, (
            f"fallback {rule.fallback!r}: the best predicted quality {best:.3f} is below the "
            f"threshold {rule.threshold:.3f}"
        )
    return None


def _choice(scores: Scores, row: int, column: int, utility: float) -> Choice:
    import numpy as np

    quality = float(scores.quality[row, column])
    evidence = scores.why(row, column)
    if np.isnan(quality):
        return Choice(scores.experts[column], None, None, Evidence("nothing is known of it here"))
    return Choice(scores.experts[column], quality, float(utility), evidence)


def _shortfall(
    k: int, n_picked: int, experts: Sequence[str], unavailable: Collection[str]
) -> str | None:
    if n_picked >= k:
        return None
    gone = [name for name in experts if name in unavailable]
    because = f"unavailable: {', '.join(gone)}" if gone else "the router knows no more"
    return f"{n_picked} of {k} experts: {because}"
