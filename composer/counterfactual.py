"""What would make another expert the first choice: the smallest change of one weight.

Two kinds of weight are tried, each alone:

- the weight of cost: utility_j(w) = base_j - w * cost_j, so the first choice a gives way to j at

      w = (base_a - base_j) / (cost_a - cost_j)

  to a cheaper expert with a greater weight, to a dearer one with a smaller;
- how much one part counts, by a factor t on what it adds to the raw scores of all experts:

      logit(quality_j(t)) = scale * (sum of parts_j + (t - 1) * part_j) + offset_j

  for routers whose evidence has `parts`, `scale` and `offset`. The first t at which another
  expert's utility is greater is bracketed on a grid and found by bisection: with costs in the
  utilities there is no closed form.

Nothing else changes with them: thresholds, fallbacks and who is available are left aside.

Source: counterfactual explanations as in Wachter, Mittelstadt and Russell 2018 (arXiv 1711.00399):
the nearest change of the input that alters the decision. Deviation: what changes is a weight of the
decision, one at a time, not the query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from composer.types import Counterfactual, Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.experts import ChooseRule
    from composer.types import Float32Array

    Float64Array = NDArray[np.float64]

Side = Literal["above", "below"]
MOST_FACTOR = 100.0
"""The greatest factor on a part that is tried."""
_FACTORS: Mapping[Side, Float64Array] = {
    "above": np.geomspace(1, MOST_FACTOR, 96),
    "below": np.linspace(1, 0, 96),
}
_HALVINGS = 50
_TOLERANCE = 2e-3
"""By how much a quality may differ from what its parts say; calibration cuts off the extremes."""


def counterfactuals(
    scores: Scores,
    row: int,
    rule: ChooseRule,
    *,
    cost_usd: Float32Array | None = None,
    load_s: Float32Array | None = None,
    unavailable: Collection[str] = (),
) -> tuple[Counterfactual, ...]:
    """The changes that make another expert the one of highest utility; at most one of each kind.

    Args:
        scores: Of n queries and m experts.
        row: The query's.
        rule: Its weights count.
        cost_usd: See `choose`.
        load_s: See `choose`.
        unavailable: See `choose`.

    Returns:
        The least change of the weight of cost, then the least of a part's; each is left out where
        none suffices.
    """
    quality = scores.quality[row]
    cost = None if cost_usd is None else cost_usd[row]
    utility = rule.utility(quality, cost, load_s)
    is_available = np.array([name not in unavailable for name in scores.experts], dtype=bool)
    known = np.isfinite(utility) & is_available
    if not known.any():
        return ()
    first = int(np.argmax(np.where(known, utility, -np.inf)))
    others = [int(column) for column in np.flatnonzero(known) if column != first]
    found: list[Counterfactual | None] = []
    if cost is not None:
        free = rule.model_copy(update={"cost_weight": 0.0}).utility(quality, None, load_s)
        found.append(_cost_flip(scores.experts, first, others, free, cost, rule.cost_weight))
    burden = -rule.utility(np.zeros_like(quality), cost, load_s)
    found.append(_part_flip(scores, row, first, others, burden))
    return tuple(each for each in found if each is not None)


def _cost_flip(
    experts: Sequence[str],
    first: int,
    others: Sequence[int],
    free: Float64Array,
    cost: Float32Array,
    now: float,
) -> Counterfactual | None:
    """The least change of the weight of cost; `free` are the utilities [m] without costs."""
    flips: list[tuple[float, Side, float, int, float]] = []
    for column in others:
        saving = float(cost[first]) - float(cost[column])
        if saving == 0 or not math.isfinite(saving):
            continue
        turn = float(free[first] - free[column]) / saving
        # Of those that overtake at one weight the one whose cost differs most is ahead past it;
        # nothing is past 0, where the earlier column is.
        if saving > 0:
            flips.append((max(turn, now) - now, "above", -saving, column, max(turn, now)))
        elif turn > 0:
            flips.append((now - min(turn, now), "below", saving, column, min(turn, now)))
        elif turn == 0 and column < first:
            flips.append((now, "below", 0.0, column, 0.0))
    if not flips:
        return None
    _, side, _, column, turn = min(flips)
    return Counterfactual("cost_weight", None, now, side, turn, experts[column])


def _part_flip(
    scores: Scores, row: int, first: int, others: Sequence[int], burden: Float64Array
) -> Counterfactual | None:
    """The least change of one part's factor; `burden` is what is taken off the qualities [m]."""
    own = _read_account(scores, row, first)
    # Evidence is made when asked for: without the first choice's the others' is of no use.
    if own is None:
        return None
    read = (_read_account(scores, row, column) for column in others)
    accounts = [own, *(account for account in read if account is not None)]
    columns = [account.column for account in accounts]
    logits = np.array([account.logit for account in accounts])
    taken = burden[columns]

    def leads(amounts: Float64Array, factors: Float64Array) -> Float64Array:
        """By how much the first choice is ahead of the others, [factors, others]."""
        values = logits + (factors[:, None] - 1) * amounts
        if taken.any():
            values = 0.5 * (1 + np.tanh(0.5 * values)) - taken
        return values[:, :1] - values[:, 1:]

    flips: list[tuple[float, str, Side, int, float]] = []
    for part in sorted({name for account in accounts for name in account.parts}):
        amounts = np.array([account.scale * account.parts.get(part, 0.0) for account in accounts])
        for side, factors in _FACTORS.items():
            turn = _first_loss(partial(leads, amounts), factors)
            if turn is not None:
                overtaker = int(np.argmin(leads(amounts, np.array([turn]))[0]))
                flips.append((abs(turn - 1), part, side, columns[1 + overtaker], turn))
    if not flips:
        return None
    _, part, side, column, turn = min(flips)
    return Counterfactual("part", part, 1.0, side, turn, scores.experts[column])


def _first_loss(
    leads: Callable[[Float64Array], Float64Array], factors: Float64Array
) -> float | None:
    """The first factor at which the first choice is behind someone; None: it never falls behind."""
    losses = np.flatnonzero((leads(factors) < 0).any(axis=1))
    # Behind from the start: rounding made a tie of it, or the parts are not the whole story.
    if not losses.size or losses[0] == 0:
        return None
    ahead, behind = float(factors[losses[0] - 1]), float(factors[losses[0]])
    for _ in range(_HALVINGS):
        middle = (ahead + behind) / 2
        if (leads(np.array([middle])) < 0).any():
            behind = middle
        else:
            ahead = middle
    return behind


@dataclass(frozen=True, slots=True)
class _Account:
    """How an expert's quality is made up."""

    column: int
    parts: Mapping[str, float]
    scale: float
    logit: float


def _read_account(scores: Scores, row: int, column: int) -> _Account | None:
    """What the evidence of an expert adds up; None: it does not add up to its quality."""
    details = scores.why(row, column).details
    parts: Mapping[str, float] = details.get("parts", {})
    if not parts or not {"scale", "offset"} <= details.keys():
        return None
    logit = details["scale"] * sum(parts.values()) + details["offset"]
    quality = 0.5 * (1 + math.tanh(0.5 * logit))
    if abs(quality - float(scores.quality[row, column])) > _TOLERANCE:
        return None
    return _Account(column, parts, details["scale"], logit)
