import numpy as np
import pytest

from composer.knapsack import assign, least_cost


def test_of_equal_costs_the_better_is_taken_where_rounding_makes_a_tie_of_them() -> None:
    quality, cost = np.array([[0.5, 0.5 + 1e-15, 1.0]]), np.array([[1e3, 1e3, 1e3 + 1]])

    found = assign(quality, cost, np.ones((1, 3), dtype=bool), 1e3)

    assert found.columns.tolist() == [1]
    assert found.cost == 1e3


def test_who_may_not_be_chosen_counts_for_nothing() -> None:
    quality, cost = np.array([[0.25, 1.0], [0.25, 0.5]]), np.array([[1.0, 0.0], [1.0, 2.0]])
    may = np.array([[True, False], [True, True]])

    found = assign(quality, cost, may, 2.5)

    assert least_cost(cost, may) == 2
    assert (found.columns.tolist(), found.quality, found.cost) == ([0, 0], 0.5, 2)
    assert found.bound == pytest.approx(0.625)


@pytest.mark.parametrize("exact", [False, True])
def test_no_queries_cost_nothing(exact: bool) -> None:
    empty = np.zeros((0, 3))

    found = assign(empty, empty, empty.astype(bool), 0, exact=exact)

    assert (found.columns.tolist(), found.quality, found.cost, found.bound) == ([], 0, 0, 0)
