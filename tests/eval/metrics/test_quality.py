import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import (
    accuracy,
    cost_per_1k,
    cost_saving,
    macro_accuracy,
    oracle_gap_closed,
    oracle_score,
    oracle_shortfall,
    performance_gain,
    regret,
    relative_gain,
)

unhurried = settings(max_examples=60, deadline=None)
NAN = math.nan
CELL = st.sampled_from([0.0, 0.1, 0.5, 1.0, NAN])
ROWS = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.lists(CELL, min_size=m, max_size=m), min_size=1, max_size=12)
)


def slow_mean(values: list[float]) -> float:
    total, n = 0.0, 0
    for value in values:
        if value == value:
            total, n = total + value, n + 1
    return total / n if n else NAN


@unhurried
@given(st.lists(CELL, max_size=12))
def test_accuracy_is_the_mean_of_what_is_known(score: list[float]):
    assert accuracy(np.array(score)) == pytest.approx(slow_mean(score), nan_ok=True)


@unhurried
@given(st.lists(st.tuples(CELL, st.integers(0, 3)), max_size=12))
def test_macro_accuracy_is_the_mean_over_the_categories_with_something_known(
    rows: list[tuple[float, int]],
):
    of_category = [slow_mean([score for score, c in rows if c == code]) for code in range(4)]

    got = macro_accuracy(
        np.array([score for score, _ in rows]), np.array([c for _, c in rows], np.int64)
    )

    assert got == pytest.approx(slow_mean(of_category), nan_ok=True)


@unhurried
@given(ROWS)
def test_the_oracle_gets_the_best_known_score_and_no_expert_beats_it(rows: list[list[float]]):
    oracle = oracle_score(np.array(rows))

    for best, row in zip(oracle, rows, strict=True):
        known = [score for score in row if score == score]
        assert best == pytest.approx(max(known) if known else NAN, nan_ok=True)
    for column in np.array(rows).T:
        assert not regret(column, np.array(rows)) < 0


@unhurried
@given(ROWS, st.lists(CELL, min_size=12, max_size=12))
def test_regret_is_what_the_oracle_has_more(rows: list[list[float]], got: list[float]):
    differences: list[float] = []
    for row, score in zip(rows, got[: len(rows)], strict=True):
        known = [other for other in row if other == other]
        if known and score == score:
            differences.append(max(known) - score)

    value = regret(np.array(got[: len(rows)]), np.array(rows))

    assert value == pytest.approx(slow_mean(differences), nan_ok=True)


@unhurried
@given(ROWS)
def test_the_order_of_the_rows_decides_nothing(rows: list[list[float]]):
    table = np.array(rows)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    codes = np.arange(len(rows)) % 3

    for before, after in (
        (accuracy(table[:, 0]), accuracy(table[order, 0])),
        (macro_accuracy(table[:, 0], codes), macro_accuracy(table[order, 0], codes[order])),
        (regret(table[:, 0], table), regret(table[order, 0], table[order])),
    ):
        assert before == pytest.approx(after, nan_ok=True)


def test_a_pool_without_experts_has_no_oracle():
    assert np.isnan(oracle_score(np.empty((2, 0)))).all()


def test_costs_are_per_thousand_queries():
    assert cost_per_1k(np.array([0.001, 0.003, NAN])) == pytest.approx(2.0)
    assert math.isnan(cost_per_1k(np.array([NAN])))


def test_the_oracle_gap_closed_is_a_share_of_the_gap():
    assert oracle_gap_closed(0.6, 0.5, 0.9) == pytest.approx(0.25)
    assert oracle_gap_closed(0.4, 0.5, 0.9) == pytest.approx(-0.25)
    assert oracle_gap_closed(0.9, 0.5, 0.9) == 1


@pytest.mark.parametrize("oracle", [0.5, 0.4, NAN])
def test_there_is_no_gap_to_close_below_the_best_single_expert(oracle: float):
    assert math.isnan(oracle_gap_closed(0.5, 0.5, oracle))


def test_gains_are_relative_as_in_llmrouterbench():
    assert relative_gain(0.6, 0.5) == pytest.approx(0.2)
    assert oracle_shortfall(0.6, 0.8) == pytest.approx(0.25)
    assert performance_gain(np.array([0.4, 0.55, NAN]), 0.5) == pytest.approx(0.1)


def test_gains_over_nothing_are_unknown():
    assert math.isnan(relative_gain(0.6, 0.0))
    assert math.isnan(oracle_shortfall(0.0, 0.0))
    assert math.isnan(performance_gain(np.array([NAN]), 0.5))


@unhurried
@given(
    st.lists(st.tuples(CELL, st.sampled_from([0.5, 1.0, 2.0, NAN])), max_size=6),
    st.sampled_from([0.1, 0.5]),
)
def test_the_cost_saving_is_that_of_the_cheapest_configuration_that_is_as_accurate(
    configurations: list[tuple[float, float]], best_single: float
):
    cheapest = NAN
    for found, cost in configurations:
        if found >= best_single and not cost >= cheapest:
            cheapest = cost if cost == cost else cheapest

    saving = cost_saving(
        np.array([found for found, _ in configurations]),
        np.array([cost for _, cost in configurations]),
        best_single,
        1.5,
    )

    assert saving == pytest.approx(1 - cheapest / 1.5, nan_ok=True)


def test_nothing_is_saved_of_no_cost():
    assert math.isnan(cost_saving(np.array([1.0]), np.array([1.0]), 0.5, 0.0))


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"shapes differ: score \(2,\), oracle \(3,\)"):
        regret(np.zeros(2), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="shapes differ"):
        cost_saving(np.zeros(2), np.zeros(3), 0.5, 1.0)
    with pytest.raises(ValueError, match="2 rows need as many integer codes"):
        macro_accuracy(np.zeros(2), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="shapes differ"):
        macro_accuracy(np.zeros((2, 2)), np.zeros(2, np.int64))


@pytest.mark.parametrize("codes", [np.array([0, -1]), np.array([0.0, 1.0])])
def test_categories_that_are_no_codes_are_refused(codes: np.ndarray):
    with pytest.raises(ValueError, match="integer codes from 0 on"):
        macro_accuracy(np.zeros(2), codes)
