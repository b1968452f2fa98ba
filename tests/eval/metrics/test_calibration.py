import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import brier, coverage_accuracy, ece, reliability_bins

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
PREDICTED = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 0.6, 2 / 3, 0.93, 1.0, NAN])
SCORE = st.sampled_from([0.0, 0.3, 1.0, NAN])
PAIRS = st.lists(st.tuples(PREDICTED, SCORE), max_size=20)
BINS = st.integers(1, 16)

Pairs = list[tuple[float, float]]


def arrays(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def known(pairs: Pairs) -> Pairs:
    return [(x, y) for x, y in pairs if x == x and y == y]


def slow_ece(bins: list[list[tuple[float, float, float]]]) -> float:
    """Bins of (weight, predicted, score)."""
    n = sum(weight for members in bins for weight, _, _ in members)
    total = 0.0
    for members in bins:
        difference = sum(weight * (x - y) for weight, x, y in members)
        total += abs(difference)
    return total / n if n else NAN


def width_bins(pairs: Pairs, n_bins: int) -> list[list[tuple[float, float, float]]]:
    bins: list[list[tuple[float, float, float]]] = []
    for i in range(n_bins):
        low, high = i / n_bins, (i + 1) / n_bins
        bins.append([(1.0, x, y) for x, y in pairs if low < x <= high or (i == 0 and x == 0)])
    return bins


def mass_bins(pairs: Pairs, n_bins: int) -> list[list[tuple[float, float, float]]]:
    """Each prediction lies, with its equals, on the stretch of ranks that they share."""
    bins: list[list[tuple[float, float, float]]] = []
    for i in range(n_bins):
        low, high = Fraction(len(pairs) * i, n_bins), Fraction(len(pairs) * (i + 1), n_bins)
        members: list[tuple[float, float, float]] = []
        for x, y in pairs:
            start = sum(other < x for other, _ in pairs)
            end = start + sum(other == x for other, _ in pairs)
            overlap = max(Fraction(0), min(high, Fraction(end)) - max(low, Fraction(start)))
            members.append((float(overlap / (end - start)), x, y))
        bins.append(members)
    return bins


@unhurried
@given(PAIRS, BINS)
def test_the_ece_of_equal_widths(pairs: Pairs, n_bins: int):
    assert ece(*arrays(pairs), n_bins) == pytest.approx(
        slow_ece(width_bins(known(pairs), n_bins)), nan_ok=True, abs=1e-12
    )


@unhurried
@given(PAIRS, BINS)
def test_the_ece_of_equal_masses(pairs: Pairs, n_bins: int):
    assert ece(*arrays(pairs), n_bins, equal_mass=True) == pytest.approx(
        slow_ece(mass_bins(known(pairs), n_bins)), nan_ok=True, abs=1e-12
    )


@unhurried
@given(PAIRS, BINS, st.booleans())
def test_the_bins_hold_every_known_pair_once(pairs: Pairs, n_bins: int, equal_mass: bool):
    bins = reliability_bins(*arrays(pairs), n_bins, equal_mass=equal_mass)

    assert bins.count.sum() == pytest.approx(len(known(pairs)))
    for means, side in ((bins.mean_predicted, 0), (bins.mean_score, 1)):
        assert np.nansum(means * bins.count) == pytest.approx(
            sum(pair[side] for pair in known(pairs))
        )
    assert (np.isnan(bins.mean_score) == (bins.count == 0)).all()


@unhurried
@given(PAIRS, BINS, st.booleans())
def test_an_ece_is_between_0_and_1_and_the_order_decides_nothing(
    pairs: Pairs, n_bins: int, equal_mass: bool
):
    value = ece(*arrays(pairs), n_bins, equal_mass=equal_mass)

    assert not value < 0
    assert not value > 1
    assert value == pytest.approx(
        ece(*arrays(pairs[::-1]), n_bins, equal_mass=equal_mass), nan_ok=True, abs=1e-12
    )


def test_bins_of_equal_mass_have_equal_mass():
    predicted = np.array([0.1, 0.2, 0.2, 0.2, 0.9])

    bins = reliability_bins(predicted, np.array([0, 1, 0, 0.5, 1]), 2, equal_mass=True)

    assert bins.count == pytest.approx([2.5, 2.5])
    assert bins.mean_predicted == pytest.approx([0.4 / 2.5, 1.2 / 2.5])
    assert bins.mean_score == pytest.approx([0.75 / 2.5, 1.75 / 2.5])


def test_an_edge_belongs_to_the_bin_below_it():
    bins = reliability_bins(np.array([0.0, 0.5, 0.75, -1, 2]), np.zeros(5), 2)

    assert bins.count.tolist() == [3, 2]


def test_a_table_is_read_cell_by_cell():
    predicted, score = np.array([[0.2, 0.8], [NAN, 0.5]]), np.array([[0.0, 1.0], [1.0, NAN]])

    assert brier(predicted, score) == pytest.approx(0.04)
    assert ece(predicted, score) == pytest.approx(0.2)
    assert coverage_accuracy(predicted, score).accuracy == pytest.approx([1, 0.5])


@unhurried
@given(PAIRS)
def test_the_brier_score_is_the_mean_squared_difference(pairs: Pairs):
    differences = [(x - y) ** 2 for x, y in known(pairs)]
    expected = sum(differences) / len(differences) if differences else NAN

    assert brier(*arrays(pairs)) == pytest.approx(expected, nan_ok=True)


@unhurried
@given(PAIRS)
def test_the_accuracy_of_the_most_confident_shares_equals(pairs: Pairs):
    curve = coverage_accuracy(*arrays(pairs))
    n = len(known(pairs))
    expected: list[float] = []
    for answered in range(1, n + 1):
        total = 0.0
        for x, y in known(pairs):
            before = sum(other > x for other, _ in known(pairs))
            equal = sum(other == x for other, _ in known(pairs))
            total += y * min(max(answered - before, 0), equal) / equal
        expected.append(total / answered)

    assert curve.coverage == pytest.approx([i / n for i in range(1, n + 1)])
    assert curve.accuracy == pytest.approx(expected)
    assert curve.area == pytest.approx(sum(expected) / n if n else NAN, nan_ok=True)


@unhurried
@given(PAIRS)
def test_no_confidence_orders_better_than_the_scores_themselves(pairs: Pairs):
    confidence, score = arrays(known(pairs))

    assert not coverage_accuracy(confidence, score).area > (
        coverage_accuracy(score, score).area + 1e-12
    )


def test_nothing_known_is_unknown():
    nothing = arrays([(NAN, 1.0), (0.5, NAN)])

    assert math.isnan(brier(*nothing))
    assert math.isnan(ece(*nothing))
    assert math.isnan(ece(*nothing, equal_mass=True))
    assert math.isnan(coverage_accuracy(*nothing).area)


def test_bad_arguments_are_refused():
    for metric in (brier, ece, coverage_accuracy, reliability_bins):
        with pytest.raises(ValueError, match="shapes differ"):
            metric(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="n_bins 0"):
        ece(np.zeros(2), np.zeros(2), 0)
