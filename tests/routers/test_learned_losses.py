from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from routers.learned.categories import PRECISION, category_numbers, category_offsets
from routers.learned.contrastive import TEMPERATURE, expert_contrast, group_contrast
from routers.learned.heads import cross_entropy
from routers.learned.selection import gates, lost_reward, reward_slope

if TYPE_CHECKING:
    from composer.types import Float32Array

NAN = math.nan


def row(*numbers: float) -> Float32Array:
    return np.array([numbers], np.float32)


def contrast(raw: Float32Array, score: Float32Array, seed: int = 0) -> tuple[float, Float32Array]:
    return expert_contrast(raw, score, np.random.default_rng(seed))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_gates_are_shares_and_small_ones_are_left_out():
    found = gates(np.log(row(0.6, 0.3, 0.1)))

    np.testing.assert_allclose(found, [[2 / 3, 1 / 3, 0]], atol=1e-6)


def test_the_largest_gate_is_kept_however_small():
    raw = np.zeros((1, 20), np.float32)
    raw[0, 7] = 0.1

    assert np.flatnonzero(gates(raw)).tolist() == [7]


def test_an_unknown_expert_has_no_gate():
    np.testing.assert_allclose(gates(row(0, NAN, 0)), [[0.5, 0, 0.5]])
    np.testing.assert_array_equal(gates(row(NAN, NAN)), [[0, 0]])


def test_large_raw_scores_do_not_overflow():
    np.testing.assert_array_equal(gates(row(1e4, -1e4)), [[1, 0]])


def test_lost_reward_is_what_the_kept_gates_miss():
    raw = np.log(np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], np.float32))
    score = np.array([[1, 0, 1], [1, NAN, 0]], np.float32)

    assert lost_reward(raw, score) == pytest.approx(1 - (2 / 3 + 1 / 2) / 2)


def test_nothing_known_is_the_worst_reward():
    assert lost_reward(row(NAN, NAN), row(1, 0)) == math.inf


def test_reward_raises_the_gate_of_who_was_right():
    slope = reward_slope(row(0, 0), row(1, 0), 0)

    assert slope[0, 0] < 0 < slope[0, 1]


def test_balance_lowers_the_gate_that_has_most():
    slope = reward_slope(row(1, 0), row(0.5, 0.5), 0.5)

    assert slope[0, 0] > 0 > slope[0, 1]


def test_the_best_are_set_against_the_worst():
    loss, slope = contrast(row(0, 0, 0, 0, 0, 0), row(1, 0.9, 0.8, 0.4, 0.2, 0))

    assert loss == pytest.approx(3 * math.log(4))
    assert (slope[0, :3] < 0).all()
    assert (slope[0, 3:] > 0).all()


def test_a_contrast_divides_cosines_by_the_temperature():
    loss, _ = contrast(row(0.3, 0.1), row(1, 0))

    assert loss == pytest.approx(math.log(1 + math.exp(-0.2 / TEMPERATURE)))


@pytest.mark.parametrize(
    "score",
    [
        row(1, 1, 1),
        row(0, 0, 0),
        row(0.9, 0.8, 0.6),
        row(NAN, NAN, 1),
        row(NAN, NAN, 0),
        row(0.4, 0.4, 0.4),
    ],
)
def test_nothing_is_contrasted_where_none_is_better_or_none_is_bad(score: Float32Array):
    loss, slope = contrast(row(0.1, 0.2, 0.3), score)

    assert loss == 0
    assert not slope.any()


def test_an_unknown_expert_is_neither_good_nor_bad():
    _, slope = contrast(row(0, 0, 0), row(1, NAN, 0))

    assert slope[0, 1] == 0
    assert slope[0, 0] < 0 < slope[0, 2]


def test_which_of_equal_experts_are_contrasted_is_drawn():
    score = row(1, 1, 1, 1, 1, 0)

    drawn = {
        tuple(np.flatnonzero(contrast(row(*[0] * 6), score, seed)[1] < 0)) for seed in range(9)
    }

    assert all(len(each) == 3 for each in drawn)
    assert len(drawn) > 1


def test_a_query_is_drawn_to_its_kind_and_from_others():
    hidden = np.eye(8, 4, dtype=np.float32)
    hidden[4:] = hidden[:4]
    groups = np.array([0, 1, 1, 1, 0, 1, 1, 1])

    loss, slope = group_contrast(hidden, groups, np.random.default_rng(0))

    assert loss > 0
    assert slope[0] @ hidden[4] < 0


@pytest.mark.parametrize("groups", [[0, 0, 0, 0, 0], [0, 1, 2, 3, 4], [0, 0, 0, 1, 1]])
def test_without_kinds_to_tell_apart_there_is_no_second_contrast(groups: list[int]):
    hidden = np.eye(5, dtype=np.float32)
    kinds = np.array(groups)

    loss, slope = group_contrast(hidden, kinds, np.random.default_rng(0))

    counts = [(kinds != kind).sum() >= 3 and (kinds == kind).sum() > 1 for kind in kinds]
    assert (loss > 0) == any(counts)
    assert slope.any() == any(counts)


def test_cross_entropy_is_that_of_the_known_cells():
    raw, score = row(0, NAN, 2, 1), row(1, 1, NAN, 0.5)

    expected = (math.log(2) + math.log(1 + math.e) - 0.5) / 2
    assert cross_entropy(raw, score) == pytest.approx(expected)
    assert cross_entropy(row(NAN), row(1)) == math.inf


def test_a_category_adds_what_its_rows_say_beyond_their_scores():
    n = 1000
    score = np.zeros((n, 1), np.float32)
    score[: n * 4 // 5] = 1

    (offset,) = category_offsets(np.zeros_like(score), score, np.zeros(n, np.int64), 1)[0]

    assert offset == pytest.approx(logit(0.8), abs=0.2)
    p = 1 / (1 + math.exp(-offset))
    assert n * (0.8 - p) == pytest.approx(PRECISION * offset, abs=0.5)


def test_a_small_category_adds_little():
    score = np.ones((2, 1), np.float32)

    offset = category_offsets(np.zeros_like(score), score, np.zeros(2, np.int64), 1)

    assert 0 < offset[0, 0] < 0.1


def test_rows_without_a_category_and_unknown_cells_add_nothing():
    raw = np.zeros((40, 3), np.float32)
    score = np.ones((40, 3), np.float32)
    score[:, 1] = NAN
    raw[:, 2] = NAN
    codes = np.repeat(np.array([0, 2]), 20)

    offsets = category_offsets(raw, score, codes, 2)

    assert offsets[0, 0] > 0.1
    assert not offsets[0, 1:].any()
    assert not offsets[1].any()


def test_raw_scores_that_are_sure_and_wrong_are_put_right_without_going_astray():
    raw = np.full((500, 1), 9.0, np.float32)

    (offset,) = category_offsets(raw, np.full_like(raw, 0.5), np.zeros(500, np.int64), 1)[0]

    assert -10 < offset < -3


def test_an_unknown_category_has_the_number_after_the_last():
    assert category_numbers(["law", None, "chess", "art"], ["art", "law"]).tolist() == [1, 2, 2, 0]
