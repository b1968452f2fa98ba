import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval.metrics import (
    aiq,
    arena_score,
    cost_saved_at_equal_quality,
    nondecreasing_hull,
    pareto_distance,
    pareto_front,
)

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
COST = st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0, 7.0])
QUALITY = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0])
POINTS = st.lists(st.tuples(COST, QUALITY), min_size=1, max_size=8)
SOME = st.sampled_from([0.5, 1.0, NAN])

Points = list[tuple[float, float]]


def columns(points: Points) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(points, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def is_dominated(point: tuple[float, float], points: Points) -> bool:
    return any(
        cost <= point[0] and quality >= point[1] and (cost, quality) != point
        for cost, quality in points
    )


def slow_hull_at(x: float, points: Points) -> float:
    """The best mixture of two configurations that costs at most x on average."""
    best = -math.inf
    for left_cost, left in points:
        for right_cost, right in points:
            if left_cost <= x:
                best = max(best, left)
            if left_cost <= x < right_cost:
                part = (x - left_cost) / (right_cost - left_cost)
                best = max(best, left + part * (right - left))
    return best


def routerbench_aiq(points: Points, max_cost: float) -> float:
    """Points are lifted to the lines above them; falling ones go; the last one is drawn out."""
    ordered = sorted(points)
    lifted: Points = []
    for x, y in ordered:
        heights = [y]
        for left_cost, left in ordered:
            for right_cost, right in ordered:
                if left_cost < x < right_cost:
                    heights.append(
                        left + (right - left) * (x - left_cost) / (right_cost - left_cost)
                    )
        lifted.append((x, max(heights)))
    kept = [lifted[0]]
    for before, point in pairwise(lifted):
        if point[1] >= before[1]:
            kept.append(point)
    kept.append((max_cost, kept[-1][1]))
    area = 0.0
    for (left_cost, left), (right_cost, right) in pairwise(kept):
        area += (right_cost - left_cost) * (left + right) / 2
    return area / max_cost


@unhurried
@given(st.lists(st.tuples(SOME, SOME), max_size=8))
def test_the_front_holds_what_nothing_dominates(points: Points):
    known = [point for point in points if point[0] == point[0] and point[1] == point[1]]
    expected = [
        index
        for index, point in enumerate(points)
        if point in known and not is_dominated(point, known)
    ]

    assert sorted(pareto_front(*columns(points)).tolist()) == expected


@unhurried
@given(POINTS)
def test_the_front_rises_in_cost_and_quality(points: Points):
    cost, quality = columns(points)
    front = pareto_front(cost, quality)

    assert (np.diff(cost[front]) >= 0).all()
    assert (np.diff(quality[front]) >= 0).all()


@unhurried
@given(POINTS)
def test_the_hull_is_the_best_mixture_at_every_cost(points: Points):
    x, y = nondecreasing_hull(*columns(points))

    for cost in np.linspace(min(cost for cost, _ in points), 8, 23):
        assert np.interp(cost, x, y) == pytest.approx(slow_hull_at(float(cost), points))


@unhurried
@given(POINTS)
def test_the_hull_bends_down_and_its_corners_are_configurations(points: Points):
    x, y = nondecreasing_hull(*columns(points))

    assert set(zip(x.tolist(), y.tolist(), strict=True)) <= set(points)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    # Three points of a line, up to rounding, may all be kept.
    assert (np.diff(np.diff(y) / np.diff(x)) < 1e-12).all()


@unhurried
@given(POINTS)
def test_one_more_configuration_never_lowers_the_hull(points: Points):
    fewer = columns(points[:-1] or points)

    assert aiq(*columns(points), 0, 8) >= aiq(*fewer, 0, 8) - 1e-12


@unhurried
@given(st.dictionaries(COST, QUALITY, min_size=3), st.sampled_from([7.0, 9.0]))
def test_the_aiq_from_no_cost_on_is_routerbenchs(points: dict[float, float], max_cost: float):
    assert aiq(*columns(list(points.items())), 0, max_cost) == pytest.approx(
        routerbench_aiq(list(points.items()), max_cost)
    )


@unhurried
@given(POINTS, st.floats(0, 4), st.floats(0.5, 5))
def test_the_aiq_is_the_mean_height_of_the_hull(points: Points, cost_min: float, span: float):
    costs = cost_min + (np.arange(2000) + 0.5) * span / 2000
    cheapest = min(cost for cost, _ in points)
    x, y = nondecreasing_hull(*columns(points))
    heights = np.where(costs < cheapest, 0.0, np.interp(costs, x, y))

    area = aiq(*columns(points), cost_min, cost_min + span)

    assert area == pytest.approx(heights.mean(), abs=2e-3)
    assert -1e-12 <= area <= max(quality for _, quality in points) + 1e-12


def test_the_aiq_of_a_range_below_the_cheapest_configuration_is_nothing():
    assert aiq(np.array([2.0]), np.array([1.0]), 0.5, 1.5) == 0


@unhurried
@given(st.floats(0, 1), st.floats(0, 500), st.floats(0.01, 2))
def test_the_arena_score_is_routerarenas(accuracy: float, cost: float, beta: float):
    clamped = max(0.0044, min(cost, 200))
    cheapness = (math.log2(200) - math.log2(clamped)) / (math.log2(200) - math.log2(0.0044))
    assume(beta * accuracy + cheapness > 0)

    score = arena_score(accuracy, cost, beta)

    expected = (1 + beta) * accuracy * cheapness / (beta * accuracy + cheapness)
    assert score == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= score <= 1 + 1e-12


def test_arena_scores_at_the_ends():
    assert arena_score(0.7, 0) == arena_score(0.7, 0.0044)
    assert arena_score(1, 0) == pytest.approx(1)
    assert arena_score(0.7, 200) == arena_score(0.7, 1000) == arena_score(0, 1) == 0
    assert arena_score(0, 200) == 0
    assert math.isnan(arena_score(NAN, 1))
    assert math.isnan(arena_score(0.5, NAN))


@unhurried
@given(POINTS, st.lists(st.tuples(COST, QUALITY), max_size=6))
def test_the_pareto_distance_is_llmrouterbenchs(own: Points, others: Points):
    everything = own + others
    logs = [math.log(cost) for cost, _ in everything]
    qualities = [quality for _, quality in everything]

    def scaled(point: tuple[float, float]) -> tuple[float, float]:
        return (
            (math.log(point[0]) - min(logs)) / ((max(logs) - min(logs)) or 1),
            (point[1] - min(qualities)) / ((max(qualities) - min(qualities)) or 1),
        )

    front = [scaled(point) for point in everything if not is_dominated(point, everything)]
    total = 0.0
    for x, y in map(scaled, own):
        total += min(abs(x - front_x) + abs(y - front_y) for front_x, front_y in front)

    distance = pareto_distance(*columns(own), *columns(others))

    assert distance == pytest.approx(total / len(own), abs=1e-12)
    assert 0 <= distance <= 2


def test_a_pareto_distance_leaves_out_what_is_unknown():
    own, others = [(1.0, 0.5), (NAN, 1.0)], [(1.0, 1.0), (2.0, 0.0), (0.0, NAN)]

    assert pareto_distance(*columns(own), *columns(others)) == pytest.approx(0.5)
    assert math.isnan(pareto_distance(*columns([(1.0, NAN)]), *columns([(1.0, 1.0)])))


@unhurried
@given(POINTS, QUALITY)
def test_what_is_saved_is_what_the_cheapest_good_mixture_costs_less(points: Points, wanted: float):
    saved = cost_saved_at_equal_quality(*columns(points), 2.0, wanted)

    if max(quality for _, quality in points) < wanted:
        assert math.isnan(saved)
        return
    cost = 2 * (1 - saved)
    assert slow_hull_at(cost + 1e-9, points) >= wanted - 1e-9
    if cost > min(cost for cost, _ in points):
        assert slow_hull_at(cost - 1e-6, points) < wanted


def test_nothing_is_saved_of_nothing():
    points = columns([(1.0, 1.0)])

    assert math.isnan(cost_saved_at_equal_quality(*points, 0.0, 0.5))
    assert math.isnan(cost_saved_at_equal_quality(*points, 1.0, NAN))
    assert math.isnan(cost_saved_at_equal_quality(*columns([(NAN, 1.0)]), 1.0, 0.5))


def test_nothing_known_is_an_empty_hull_without_an_area():
    x, y = nondecreasing_hull(*columns([(1.0, NAN)]))

    assert x.size == y.size == 0
    assert math.isnan(aiq(*columns([]), 0, 1))


def test_bad_arguments_are_refused():
    one = np.ones(1)
    with pytest.raises(ValueError, match="shapes differ"):
        pareto_front(one, np.ones(2))
    with pytest.raises(ValueError, match="cost_max 1 must be above cost_min 1"):
        aiq(one, one, 1, 1)
    for accuracy, cost, low in ((1.1, 1, 0.1), (-0.1, 1, 0.1), (0.5, -1, 0.1), (0.5, 1, 300)):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
            arena_score(accuracy, cost, cost_min=low)
    with pytest.raises(ValueError, match="costs must be positive"):
        pareto_distance(one, one, np.zeros(1), one)
