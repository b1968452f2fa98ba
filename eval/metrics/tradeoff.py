"""Quality against cost: what a set of configurations can buy, as one number or as a frontier."""

from __future__ import annotations

import math

import numpy as np

from eval.metrics.arrays import Float64Array, FloatArray, Int64Array, check_shapes

_NAN = float("nan")


def pareto_front(cost: FloatArray, quality: FloatArray) -> Int64Array:
    """The points that no other point dominates, as indices by rising cost.

    A point dominates another that it equals or beats in both cost and quality and beats in one; so
    of equal points all stay. Points with something unknown are left out.

    Args:
        cost: Of each point [c], lower is better.
        quality: [c], higher is better.

    Raises:
        ValueError: Shapes differ.
    """
    check_shapes(cost=cost, quality=quality)
    known = np.flatnonzero(~np.isnan(cost + quality))
    order = known[np.lexsort((-quality[known], cost[known]))]
    best_so_far = np.maximum.accumulate(quality[order])
    first_as_good = np.searchsorted(best_so_far, quality[order])
    is_cheapest = cost[order][first_as_good] == cost[order]
    return order[(quality[order] == best_so_far) & is_cheapest]


def nondecreasing_hull(cost: FloatArray, quality: FloatArray) -> tuple[Float64Array, Float64Array]:
    """The corners of the non-decreasing convex hull: the best quality to be had at each cost.

    Between two corners lies what a random mixture of the two configurations gets and costs; above
    the last one nothing gets better.

    Source: RouterBench (arXiv 2403.12031) section 3; evaluation/AIQ.py. Deviations: of points of
    one cost the best counts (there, of the cheapest ones, any), two points are enough, and points
    that lie on the line between two others are no corners.

    Args:
        cost: Of each configuration [c].
        quality: [c].

    Returns:
        Costs and qualities of the corners, both rising; empty where nothing is known.

    Raises:
        ValueError: Shapes differ.
    """
    corners: list[tuple[float, float]] = []
    for index in pareto_front(cost, quality):
        x, y = float(cost[index]), float(quality[index])
        if corners and corners[-1] == (x, y):
            continue
        while len(corners) > 1 and _is_below(corners[-1], corners[-2], (x, y)):
            corners.pop()
        corners.append((x, y))
    hull = np.array(corners, np.float64).reshape(-1, 2)
    return hull[:, 0], hull[:, 1]


def aiq(cost: FloatArray, quality: FloatArray, cost_min: float, cost_max: float) -> float:
    """The average improvement in quality: the area under the hull, over the range of costs.

    Beyond the hull's last corner its quality holds; below the first one there is nothing to be had,
    which counts as 0. RouterBench's code divides by the largest cost among the routers compared,
    which is `cost_min=0`; its paper has the range from a smallest to a largest cost.

    Source: RouterBench (arXiv 2403.12031) section 3; evaluation/AIQ.py.

    Args:
        cost: Of each configuration of one router [c].
        quality: [c].
        cost_min: Where the range starts; the same for all routers that are compared.
        cost_max: Where it ends.

    Returns:
        In the unit of quality; NaN where nothing is known.

    Raises:
        ValueError: Shapes differ, or the range is empty.
    """
    if not cost_max > cost_min:
        raise ValueError(f"cost_max {cost_max} must be above cost_min {cost_min}")
    x, y = nondecreasing_hull(cost, quality)
    if not x.size:
        return _NAN
    start = max(cost_min, float(x[0]))
    inside = x[(x > start) & (x < cost_max)]
    grid = np.concatenate([[start], inside, [max(start, cost_max)]])
    height = np.interp(grid, x, y)
    area = np.sum((height[1:] + height[:-1]) / 2 * np.diff(grid))
    return float(area / (cost_max - cost_min))


def arena_score(
    accuracy: float,
    cost_per_1k: float,
    beta: float = 0.1,
    cost_min: float = 0.0044,
    cost_max: float = 200.0,
) -> float:
    """RouterArena's score: a weighted harmonic mean of accuracy and of cheapness.

    (1 + beta) A C / (beta A + C), where C falls from 1 at `cost_min` to 0 at `cost_max` with the
    logarithm of the cost, which is first brought into that range.

    Source: RouterArena (arXiv 2510.00202), llm_evaluation/run.py, constants included. Deviations: a
    cost of 0 counts as `cost_min` (there it is refused), and a score of 0 stands where both
    accuracy and C are 0 (there it is a division by zero).

    Args:
        accuracy: In [0, 1].
        cost_per_1k: USD per 1,000 queries.
        beta: Weight of the cost.
        cost_min: USD per 1,000 queries.
        cost_max: USD per 1,000 queries.

    Returns:
        In [0, 1]; NaN where accuracy or cost is.

    Raises:
        ValueError: An accuracy outside [0, 1], a negative cost, or an empty range of costs.
    """
    if math.isnan(accuracy) or math.isnan(cost_per_1k):
        return _NAN
    if not 0 <= accuracy <= 1 or cost_per_1k < 0 or not 0 < cost_min < cost_max:
        raise ValueError(
            f"accuracy {accuracy} must be in [0, 1], cost_per_1k {cost_per_1k} not negative, "
            f"and 0 < cost_min {cost_min} < cost_max {cost_max}"
        )
    cost = min(max(cost_per_1k, cost_min), cost_max)
    cheapness = math.log(cost_max / cost) / math.log(cost_max / cost_min)
    below = beta * accuracy + cheapness
    return (1 + beta) * accuracy * cheapness / below if below else 0.0


def pareto_distance(
    cost: FloatArray, quality: FloatArray, other_cost: FloatArray, other_quality: FloatArray
) -> float:
    """How far a method's configurations lie from the frontier of all: LLMRouterBench's ParetoDist.

    The mean over the configurations of the distance |dx| + |dy| to the nearest point of the Pareto
    front, where x is the logarithm of the cost and y the quality, each scaled to [0, 1] over all
    configurations, the method's own included. A range of 0 is not scaled. 0: on the front.

    Source: LLMRouterBench (arXiv 2601.07206) section 6. Its repository computes it nowhere; the
    formula is as projects that report it restate it.

    Args:
        cost: Of each configuration of the method [c], positive.
        quality: [c].
        other_cost: Of the configurations of all other methods [o], positive.
        other_quality: [o].

    Returns:
        In [0, 2]; NaN where nothing is known of the method. Unknown points are left out.

    Raises:
        ValueError: Shapes differ, or a cost is not positive.
    """
    check_shapes(cost=cost, quality=quality)
    check_shapes(other_cost=other_cost, other_quality=other_quality)
    points = np.array(
        [np.concatenate([cost, other_cost]), np.concatenate([quality, other_quality])], np.float64
    )
    is_own = np.arange(len(cost) + len(other_cost)) < len(cost)
    known = ~np.isnan(points).any(axis=0)
    if (points[0, known] <= 0).any():
        raise ValueError("costs must be positive: they are compared by their logarithms")
    if not (known & is_own).any():
        return _NAN
    front = points[:, pareto_front(points[0], points[1])]
    spans = [np.log(points[0, known]), points[1, known]]
    scale = np.array([[np.ptp(span) or 1.0] for span in spans])
    own = points[:, known & is_own]
    for part in (front, own):
        part[0] = np.log(part[0])
    distances = np.abs((own[:, :, None] - front[:, None, :]) / scale[:, :, None]).sum(axis=0)
    return float(distances.min(axis=1).mean())


def cost_saved_at_equal_quality(
    cost: FloatArray, quality: FloatArray, reference_cost: float, reference_quality: float
) -> float:
    """The share of a reference's cost that is saved at its quality.

    1 - c / reference_cost, with c the cost at which the non-decreasing hull reaches the reference's
    quality; so, other than in `cost_saving`, two configurations may be mixed. Negative where that
    takes more.

    Args:
        cost: Of each configuration of a router [c].
        quality: [c].
        reference_cost: In the unit of `cost`.
        reference_quality: In the unit of `quality`.

    Returns:
        NaN where the hull never gets that good, or where the reference costs nothing.

    Raises:
        ValueError: Shapes differ.
    """
    x, y = nondecreasing_hull(cost, quality)
    if not x.size or not reference_quality <= y[-1] or not reference_cost > 0:
        return _NAN
    return 1 - float(np.interp(reference_quality, y, x)) / reference_cost


def _is_below(
    middle: tuple[float, float], left: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether the middle point is on or below the line between its neighbours."""
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (
        middle[0] - left[0]
    )
