import math
from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval.metrics import StrongWeakCurve, apgr, cpt, strong_weak_curve

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
SCORE = st.sampled_from([0.0, 0.25, 1.0])
ROW = st.tuples(st.integers(0, 4), SCORE, SCORE)
ROWS = st.lists(ROW, min_size=1, max_size=30)
BINS = st.integers(1, 12)


def arrays(rows: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p_strong, strong, weak = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return p_strong, strong, weak


def curve_of(rows: list[tuple[float, float, float]], n_bins: int = 10) -> StrongWeakCurve:
    return strong_weak_curve(*arrays(rows), n_bins)


def routellm(
    rows: list[tuple[float, float, float]], n_bins: int
) -> tuple[list[float], list[float]]:
    """Thresholds at the quantiles; what is at or above goes to the strong expert."""
    ordered = sorted(Fraction(p) for p, _, _ in rows)
    shares: list[float] = []
    accuracies: list[float] = []
    for i in range(n_bins + 1):
        position = Fraction((len(ordered) - 1) * i, n_bins)
        below = math.floor(position)
        above = min(below + 1, len(ordered) - 1)
        threshold = ordered[below] + (position - below) * (ordered[above] - ordered[below])
        calls, total = 0, 0.0
        for p, strong, weak in rows:
            is_strong = p > threshold if i == n_bins else p >= threshold
            calls += is_strong
            total += strong if is_strong else weak
        shares.insert(0, calls / len(rows))
        accuracies.insert(0, total / len(rows))
    return shares, accuracies


def slow_apgr(shares: list[float], accuracies: list[float]) -> float:
    area = sum(
        (right - left) * (low + high) / 2
        for (left, right), (low, high) in zip(pairwise(shares), pairwise(accuracies), strict=True)
    )
    return (area - accuracies[0]) / (accuracies[-1] - accuracies[0])


@unhurried
@given(st.lists(st.tuples(SCORE, SCORE), min_size=2, max_size=40), st.integers(1, 8), BINS)
def test_the_curve_of_different_predictions_is_routellms(
    scores: list[tuple[float, float]], step: int, n_bins: int
):
    places = [(7 * i) % 41 * step for i in range(len(scores))]
    rows = [(float(p), strong, weak) for p, (strong, weak) in zip(places, scores, strict=True)]

    curve = curve_of(rows, n_bins)
    shares, accuracies = routellm(rows, n_bins)

    assert curve.strong_share == pytest.approx(shares)
    assert curve.accuracy == pytest.approx(accuracies)
    if accuracies[-1] > accuracies[0]:
        assert apgr(curve) == pytest.approx(slow_apgr(shares, accuracies))


def test_a_known_curve():
    rows = [(p / 10, float(p >= 5), 0.0) for p in range(11)]

    curve = curve_of(rows)

    calls = np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    assert curve.strong_share == pytest.approx(calls / 11)
    assert curve.accuracy == pytest.approx(np.minimum(calls, 6) / 11)
    assert cpt(curve, 0.5) == pytest.approx(3 / 11)
    assert cpt(curve, 0.75) == pytest.approx(4.5 / 11)
    assert cpt(curve, 1) == pytest.approx(6 / 11)


@unhurried
@given(st.lists(ROW, min_size=1, max_size=5), st.integers(1, 4))
def test_equal_predictions_share_as_if_their_order_were_random(
    rows: list[tuple[float, float, float]], n_bins: int
):
    curve = curve_of(rows, n_bins)
    for share, value in zip(curve.strong_share, curve.accuracy, strict=True):
        calls = round(float(share) * len(rows))
        totals: list[float] = []
        for order in permutations(rows):
            ranked = sorted(order, key=lambda row: -row[0])
            totals.append(
                sum(row[1] if place < calls else row[2] for place, row in enumerate(ranked))
            )
        assert value == pytest.approx(sum(totals) / len(totals) / len(rows))


@unhurried
@given(ROWS, BINS)
def test_the_curve_runs_from_the_weak_to_the_strong_expert(
    rows: list[tuple[float, float, float]], n_bins: int
):
    curve = curve_of(rows, n_bins)

    assert len(curve.strong_share) == len(curve.accuracy) == n_bins + 1
    assert (curve.strong_share[0], curve.strong_share[-1]) == (0, 1)
    assert (np.diff(curve.strong_share) >= 0).all()
    assert curve.accuracy[0] == pytest.approx(sum(weak for _, _, weak in rows) / len(rows))
    assert curve.accuracy[-1] == pytest.approx(sum(strong for _, strong, _ in rows) / len(rows))


@unhurried
@given(ROWS)
def test_the_order_of_the_file_decides_nothing(rows: list[tuple[float, float, float]]):
    assert curve_of(rows).accuracy == pytest.approx(curve_of(rows[::-1]).accuracy)


@unhurried
@given(ROWS)
def test_only_the_order_of_the_predictions_counts(rows: list[tuple[float, float, float]]):
    stretched = [(math.exp(p) - 3, strong, weak) for p, strong, weak in rows]

    assert curve_of(rows).accuracy == pytest.approx(curve_of(stretched).accuracy)


@unhurried
@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=60))
def test_a_router_without_an_opinion_recovers_half_of_the_gap(scores: list[tuple[float, float]]):
    curve = curve_of([(0.5, strong, weak) for strong, weak in scores])
    assume(curve.accuracy[-1] > curve.accuracy[0])

    assert apgr(curve) == pytest.approx(0.5)
    assert cpt(curve, 0.8) == pytest.approx(0.8)


@unhurried
@given(ROWS)
def test_the_best_order_is_better_than_any_other_one(rows: list[tuple[float, float, float]]):
    best = curve_of([(strong - weak, strong, weak) for _, strong, weak in rows])
    worst = curve_of([(weak - strong, strong, weak) for _, strong, weak in rows])
    curve = curve_of(rows)

    assert (curve.accuracy <= best.accuracy + 1e-12).all()
    assert (curve.accuracy >= worst.accuracy - 1e-12).all()


@unhurried
@given(ROWS, st.floats(0, 1), st.floats(0, 1))
def test_more_of_the_gap_takes_at_least_as_many_strong_calls(
    rows: list[tuple[float, float, float]], x: float, y: float
):
    curve = curve_of(rows)
    assume(curve.accuracy[-1] > curve.accuracy[0])

    assert 0 <= cpt(curve, min(x, y)) <= cpt(curve, max(x, y)) <= 1


@unhurried
@given(st.floats(0, 0.5), st.floats(0.51, 1))
def test_the_whole_gap_is_recovered_with_strong_calls_only(weak: float, strong: float):
    curve = StrongWeakCurve(np.array([0.0, 0.5, 1.0]), np.array([weak, weak, strong]))

    assert cpt(curve, 1) == 1


def test_the_first_crossing_counts():
    curve = StrongWeakCurve(np.array([0, 0.25, 0.5, 0.75, 1]), np.array([0, 0.8, 0.2, 0.6, 1.0]))

    assert cpt(curve, 0.4) == pytest.approx(0.125)
    assert cpt(curve, 0.9) == pytest.approx(0.9375)
    assert cpt(curve, 0) == 0
    assert math.isnan(cpt(curve, 1.01))


@pytest.mark.parametrize("strong", [0.5, 0.25, NAN])
def test_without_a_gap_nothing_is_recovered(strong: float):
    curve = curve_of([(0.1, strong, 0.5), (0.2, strong, 0.5)])

    assert math.isnan(apgr(curve))
    assert math.isnan(cpt(curve, 0.5))


def test_queries_with_something_unknown_are_left_out():
    rows = [(0.9, 1.0, 0.0), (0.4, 0.0, 1.0), (0.3, 1.0, 0.0)]
    unknown = [(NAN, 1.0, 0.0), (0.5, NAN, 0.0), (0.6, 1.0, NAN)]

    assert curve_of(rows + unknown).accuracy == pytest.approx(curve_of(rows).accuracy)


def test_one_query_is_enough():
    curve = curve_of([(0.5, 1.0, 0.0)])

    assert curve.accuracy.tolist() == [0, *[1] * 10]
    assert apgr(curve) == pytest.approx(0.5)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        strong_weak_curve(np.zeros(2), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="n_bins 0"):
        strong_weak_curve(np.zeros(2), np.zeros(2), np.zeros(2), 0)
