import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import ndcg_at_k, recall_at_k

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
PREDICTED = st.sampled_from([0.1, 0.5, 0.9, NAN])
SCORE = st.sampled_from([0.0, 0.4, 0.5, 1.0, NAN])
ROW = st.lists(st.tuples(PREDICTED, SCORE), min_size=1, max_size=5)

Row = list[tuple[float, float]]


def arrays(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, np.float64)
    return table[:, :, 0], table[:, :, 1]


def orders(row: Row) -> list[list[float]]:
    """The known scores in every order that agrees with the predictions."""
    known = [(predicted, score) for predicted, score in row if score == score]
    return [
        [score for _, score in sorted(order, key=lambda e: -e[0] if e[0] == e[0] else math.inf)]
        for order in permutations(known)
    ]


def dcg(scores: list[float], k: int) -> float:
    return sum(score / math.log2(rank + 2) for rank, score in enumerate(scores[:k]))


@unhurried
@given(ROW, st.integers(1, 6))
def test_ndcg_is_the_expected_gain_over_the_orders_of_equals(row: Row, k: int):
    found = orders(row)
    expected = sum(dcg(order, k) for order in found) / len(found)
    ideal = dcg(sorted(found[0], reverse=True), k)

    (value,) = ndcg_at_k(*arrays([row]), k)

    assert value == pytest.approx(expected / ideal if ideal else NAN, nan_ok=True)
    assert not value < 0
    assert not value > 1 + 1e-12


@unhurried
@given(ROW, st.integers(1, 6), st.sampled_from([0.4, 0.5, 1.0]))
def test_recall_is_the_share_of_the_orders_of_equals_with_a_right_one(
    row: Row, k: int, threshold: float
):
    found = orders(row)
    hits = sum(any(score >= threshold for score in order[:k]) for order in found)
    has_right = any(score >= threshold for score in found[0])

    (value,) = recall_at_k(*arrays([row]), k, threshold)

    assert value == pytest.approx(hits / len(found) if has_right else NAN, nan_ok=True)


@unhurried
@given(ROW, st.integers(1, 5))
def test_a_larger_k_recalls_at_least_as_much(row: Row, k: int):
    (fewer,), (more,) = (recall_at_k(*arrays([row]), size) for size in (k, k + 1))

    assert not more < fewer


@unhurried
@given(ROW, st.integers(1, 5))
def test_the_order_of_the_experts_decides_nothing(row: Row, k: int):
    for metric in (ndcg_at_k, recall_at_k):
        assert metric(*arrays([row]), k) == pytest.approx(
            metric(*arrays([row[::-1]]), k), nan_ok=True
        )


@unhurried
@given(st.lists(SCORE, min_size=1, max_size=5), st.integers(1, 5))
def test_ranking_by_the_scores_themselves_is_perfect(scores: list[float], k: int):
    row = [(score, score) for score in scores]

    for metric in (ndcg_at_k, recall_at_k):
        (value,) = metric(*arrays([row]), k)
        assert math.isnan(value) or value == pytest.approx(1)


def test_every_query_is_ranked_for_itself():
    rows = [
        [(0.9, 0.0), (0.1, 1.0), (0.5, 0.0)],
        [(0.5, 0.0), (0.5, 1.0), (0.5, 0.0)],
        [(0.9, 0.0), (0.1, 0.0), (0.5, 0.0)],
        [(0.9, 0.3), (0.1, 0.3), (0.5, 0.3)],
    ]

    ndcg, recall = ndcg_at_k(*arrays(rows), 2), recall_at_k(*arrays(rows), 2)

    one_of_three = (1 + 1 / math.log2(3)) / 3
    assert ndcg == pytest.approx([0, one_of_three, NAN, 1], nan_ok=True)
    assert recall == pytest.approx([0, 2 / 3, NAN, NAN], nan_ok=True)


def test_long_tables_are_ranked_like_short_ones():
    rng = np.random.default_rng(0)
    quality, score = rng.integers(0, 5, (40_000, 4)) / 4, rng.integers(0, 2, (40_000, 4)) / 1.0

    for metric in (ndcg_at_k, recall_at_k):
        whole = metric(quality, score, 2)
        np.testing.assert_array_equal(whole[-100:], metric(quality[-100:], score[-100:], 2))


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k])
def test_nothing_to_rank_is_unknown(metric: type):
    assert metric(np.empty((0, 3)), np.empty((0, 3)), 1).shape == (0,)
    assert np.isnan(metric(np.empty((2, 0)), np.empty((2, 0)), 1)).all()
    assert np.isnan(metric(np.ones((2, 1)), np.full((2, 1), NAN), 1)).all()


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k])
def test_bad_arguments_are_refused(metric: type):
    with pytest.raises(ValueError, match="shapes differ"):
        metric(np.ones((2, 2)), np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match=r"must be \[n, m\]"):
        metric(np.ones(2), np.ones(2), 1)
    with pytest.raises(ValueError, match="k 0 at least 1"):
        metric(np.ones((2, 2)), np.ones((2, 2)), 0)
