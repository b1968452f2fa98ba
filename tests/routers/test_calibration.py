from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.calibration import Calibration, CalibrationKind, calibrate, logit, sigmoid

if TYPE_CHECKING:
    from composer.types import Float32Array

NAN = math.nan
KINDS: tuple[CalibrationKind, ...] = ("platt", "isotonic")
SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=8)


def held_out(seed: int, n: int = 30, m: int = 3) -> tuple[Float32Array, Float32Array]:
    """Raw scores of some scale that say more or less, or the wrong thing; scores; with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, m))
    chances = sigmoid(rng.normal() * x + rng.normal(size=m))
    score = rng.choice([(rng.random((n, m)) < chances).astype(float), chances])
    raw = rng.choice([0.001, 1, 1000]) * x + rng.choice([0, -5, 5])
    for cells in (raw, score):
        cells[rng.random((n, m)) < rng.choice([0, 0.3, 0.9])] = NAN
    return raw.astype(np.float32), score.astype(np.float32)


def draw(
    scale: float, offsets: list[float], n: int = 4000, seed: int = 0
) -> tuple[Float32Array, Float32Array]:
    """Raw scores, and scores drawn by a logistic curve of them."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(2, 1.5, (n, len(offsets))).astype(np.float32)
    score = rng.random(raw.shape) < sigmoid(scale * raw.astype(np.float64) + offsets)
    return raw, score.astype(np.float32)


def across(raw: Float32Array, n: int = 50) -> Float32Array:
    """Rows of raw scores that rise alike for all experts, from below what is known to above."""
    low, high = (-1.0, 1.0) if np.isnan(raw).all() else (np.nanmin(raw), np.nanmax(raw))
    rising = np.linspace(low - 1, high + 1, n, dtype=np.float32)
    return np.repeat(rising[:, None], raw.shape[1], axis=1)


@pytest.mark.parametrize("own_offsets", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@few
@given(SEEDS)
def test_qualities_are_within_zero_and_one_and_never_fall_as_raw_scores_rise(
    kind: CalibrationKind, own_offsets: bool, seed: int
):
    raw, score = held_out(seed)

    calibration = calibrate(raw, score, kind, own_offsets=own_offsets)

    quality = calibration.quality(across(raw))
    assert quality.dtype == np.float32
    assert np.all((quality > 0) & (quality < 1))
    assert np.all(np.diff(quality, axis=0) >= 0)
    assert calibration.scale >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_raw_score_is_a_higher_quality_where_the_curve_is_not_flat(kind: CalibrationKind):
    raw, score = draw(1.2, [-1.0, 0.5])

    calibration = calibrate(raw, score, kind)

    assert calibration.scale > 0
    rising = np.repeat(np.linspace(-2, 4, 50, dtype=np.float32)[:, None], 2, axis=1)
    assert np.all(np.diff(calibration.quality(rising), axis=0) > 0)


@pytest.mark.parametrize("kind", KINDS)
@few
@given(SEEDS)
def test_unknown_raw_scores_are_unknown_qualities_and_no_others_are(
    kind: CalibrationKind, seed: int
):
    raw, score = held_out(seed)

    quality = calibrate(raw, score, kind).quality(raw)

    np.testing.assert_array_equal(np.isnan(quality), np.isnan(raw))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(SEEDS)
def test_without_offsets_the_order_of_experts_is_that_of_their_raw_scores(
    kind: CalibrationKind, seed: int
):
    raw, score = held_out(seed)

    calibration = calibrate(raw, score, kind, own_offsets=False)

    if not np.isnan(raw + score).all():
        ascending = np.sort(raw, axis=1)
        assert len(np.unique(calibration.offsets)) == 1
        assert not (np.diff(calibration.quality(ascending), axis=1) < 0).any()


def test_a_logistic_curve_is_found_again():
    raw, score = draw(1.5, [-3.0, -1.0, -4.0])

    calibration = calibrate(raw, score)

    assert calibration.scale == pytest.approx(1.5, rel=0.1)
    np.testing.assert_allclose(calibration.offsets, [-3.0, -1.0, -4.0], atol=0.25)


def test_a_curve_is_found_again_from_fractions_instead_of_zeros_and_ones():
    raw, _ = draw(1.5, [-3.0, -1.0])
    chances = sigmoid(1.5 * raw.astype(np.float64) + [-3.0, -1.0]).astype(np.float32)

    quality = calibrate(raw, chances).quality(raw)

    np.testing.assert_allclose(quality, chances, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_is_what_happens(kind: CalibrationKind):
    raw, score = draw(1.5, [-3.0, -1.0])

    quality = calibrate(raw, score, kind).quality(raw)

    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        there = (quality >= low) & (quality < high)
        assert quality[there].mean() == pytest.approx(score[there].mean(), abs=0.03)


def test_the_unit_of_raw_scores_does_not_matter():
    raw, score = draw(1.5, [-3.0, -1.0], n=400)

    plain = calibrate(raw, score).quality(raw)
    scaled = calibrate(raw * 1000 - 70, score).quality(raw * 1000 - 70)

    np.testing.assert_allclose(scaled, plain, atol=1e-3)


def test_isotonic_bends_to_what_is_no_logistic_curve():
    raw, _ = draw(1.0, [0.0])
    steps = np.where(raw > 2, 0.9, 0.4).astype(np.float32)
    asked = np.array([[0.0], [1.5], [2.5], [4.0]], np.float32)

    bent = calibrate(raw, steps, "isotonic").quality(asked)

    np.testing.assert_allclose(bent, [[0.4], [0.4], [0.9], [0.9]], atol=0.01)
    assert np.abs(calibrate(raw, steps).quality(asked) - bent).max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_raw_scores_that_say_the_opposite_are_not_followed(kind: CalibrationKind):
    raw, score = draw(1.5, [-3.0, -1.0])

    quality = calibrate(-raw, score, kind).quality(-raw)

    np.testing.assert_allclose(quality.mean(axis=0), score.mean(axis=0), atol=0.02)
    assert np.ptp(quality, axis=0).max() < 0.01


@pytest.mark.parametrize("noise", [0, 1e-7])
@pytest.mark.parametrize("n", [20, 3000])
@pytest.mark.parametrize("kind", KINDS)
def test_raw_scores_that_are_all_alike_are_no_reason_for_a_steep_curve(
    kind: CalibrationKind, n: int, noise: float
):
    _, score = draw(1.0, [-1.0, -3.0], n)
    raw = 2 + noise * np.random.default_rng(0).normal(size=score.shape)

    calibration = calibrate(raw.astype(np.float32), score, kind)

    quality = calibration.quality(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], np.float32))
    np.testing.assert_allclose(quality, np.tile(score.mean(axis=0), (3, 1)), atol=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_raw_score_is_known_the_quality_is_the_experts_mean(kind: CalibrationKind):
    score = np.array([[1, 0, NAN], [1, 1, NAN], [1, 0, NAN]], np.float32)

    calibration = calibrate(np.full_like(score, NAN), score, kind)

    assert calibration.scale == 0
    np.testing.assert_allclose(
        calibration.quality(np.array([[-9, 0, 9]], np.float32)),
        [[3.5 / 4, 1.5 / 4, 0.5]],
        rtol=1e-5,
    )


def test_an_expert_without_held_out_raw_scores_is_taken_for_an_average_one():
    raw, score = draw(1.0, [-2.0, -2.0])
    raw[:, 1] = NAN

    calibration = calibrate(raw, score)

    assert calibration.offsets[1] == pytest.approx(calibration.offsets[0], abs=0.1)


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_do_not_make_a_certainty(n: int, right: float):
    score = np.full((n, 1), right, np.float32)

    quality = calibrate(np.arange(n, dtype=np.float32)[:, None], score).quality(score)

    assert 0.05 < quality.min() <= quality.max() < 0.95


def test_many_rows_do():
    score = np.ones((2000, 1), np.float32)

    assert calibrate(np.zeros_like(score), score).quality(score[:1]).item() > 0.99


@few
@given(SEEDS)
def test_cells_of_which_either_half_is_unknown_teach_nothing(seed: int):
    raw, score = held_out(seed)
    unknown = np.isnan(raw) | np.isnan(score)
    if unknown.all():
        return

    found = calibrate(raw, score)
    expected = calibrate(np.where(unknown, NAN, raw), np.where(unknown, NAN, score))

    assert found.scale == expected.scale
    np.testing.assert_array_equal(found.offsets, expected.offsets)


@pytest.mark.parametrize("kind", KINDS)
@few
@given(SEEDS, st.integers(0, 2))
def test_without_an_expert_the_others_qualities_are_the_same(
    kind: CalibrationKind, seed: int, column: int
):
    raw, score = held_out(seed)
    calibration = calibrate(raw, score, kind)

    fewer = calibration.without(column)

    np.testing.assert_array_equal(
        fewer.quality(np.delete(raw, column, axis=1)),
        np.delete(calibration.quality(raw), column, axis=1),
    )


def test_without_an_expert_the_whole_calibration_is_as_it_was():
    calibration = calibrate(*draw(1.0, [-1.0, -2.0], 50))
    before = calibration.offsets.copy()

    calibration.without(0)

    np.testing.assert_array_equal(calibration.offsets, before)


def test_qualities_keep_away_from_certainty_however_far_the_raw_scores():
    calibration = Calibration(1.0, np.zeros(1))

    quality = calibration.quality(np.array([[-1e30], [1e30]], np.float32))

    np.testing.assert_allclose(quality, [[0.001], [0.999]], rtol=1e-5)


def test_an_isotonic_curve_of_one_step_still_tells_experts_apart():
    calibration = replace(Calibration(1.0, np.zeros(1)), knots=np.array([[0.5], [0.7]]))

    quality = calibration.quality(np.array([[-1.0], [1.0]], np.float32))

    np.testing.assert_allclose(quality, 0.7, atol=1e-3)
    assert quality[0] < quality[1]


@given(st.floats(0.002, 0.998))
def test_a_logit_is_undone_by_the_sigmoid(p: float):
    assert sigmoid(logit(p)) == pytest.approx(p)


def test_a_certainty_has_a_finite_logit():
    np.testing.assert_allclose(logit([0, 1]), logit([0.001, 0.999]))
