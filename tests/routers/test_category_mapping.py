from __future__ import annotations

import json
from dataclasses import asdict
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from composer.errors import ConfigError
from routers.category.mapping import restore_mapping, solve_mapping

QUALITY = np.array([[0.9, 0.6, 0.5], [0.2, 0.3, 0.1]])
SHARE = np.array([0.5, 0.5])
PARAMS_B = np.array([8.0, 3.0, 1.0])

Float64Array = NDArray[np.float64]
Problem = tuple[Float64Array, Float64Array, Float64Array]
few = settings(deadline=None, max_examples=25)


@st.composite
def problems(draw: st.DrawFn, most_experts: int) -> Problem:
    """Quality [s, m], shares [s] and sizes [m]; sixteenths, so that sums are exact."""
    s = draw(st.sampled_from([1, 2, 4]))
    m = draw(st.integers(1, most_experts))
    cell = st.integers(0, 16)
    quality = [[draw(cell) / 16 for _ in range(m)] for _ in range(s)]
    sizes = [float(draw(st.integers(1, 8))) for _ in range(m)]
    return np.array(quality), np.full(s, 1 / s), np.array(sizes)


@few
@given(problems(4), st.none() | st.integers(0, 16), st.none() | st.integers(0, 8))
def test_no_mapping_within_both_budgets_is_better(
    problem: Problem, resident_more: int | None, active_eighths: int | None
):
    quality, share, params_b = problem
    least, most = params_b.min(), params_b.max()
    resident = None if resident_more is None else float(least + resident_more)
    active = None if active_eighths is None else float(least + active_eighths / 8 * (most - least))
    rows = np.arange(len(share))
    best = max(
        float(share @ quality[rows, list(each)])
        for each in product(range(len(params_b)), repeat=len(share))
        if (resident is None or params_b[sorted(set(each))].sum() <= resident)
        and (active is None or share @ params_b[list(each)] <= active)
    )

    found = solve_mapping(
        quality, share, params_b, resident_params_b=resident, active_params_b=active
    )

    assert found.quality == pytest.approx(best, abs=1e-6)
    assert resident is None or found.resident_params_b <= resident
    assert active is None or found.active_params_b <= active


@few
@given(problems(8), st.integers(8, 24))
def test_no_set_of_experts_within_the_resident_budget_is_better(problem: Problem, resident: int):
    quality, share, params_b = problem
    experts = range(len(params_b))
    best = max(
        float(share @ quality[:, list(each)].max(axis=1))
        for size in experts
        for each in combinations(experts, size + 1)
        if params_b[list(each)].sum() <= resident
    )

    found = solve_mapping(quality, share, params_b, resident_params_b=resident)

    assert found.quality == pytest.approx(best, abs=1e-6)


@few
@given(problems(5), st.integers(8, 20))
def test_the_order_of_the_experts_does_not_matter(problem: Problem, resident: int):
    quality, share, params_b = problem
    order = np.arange(len(params_b))[::-1]

    found = solve_mapping(quality, share, params_b, resident_params_b=resident)
    turned = solve_mapping(quality[:, order], share, params_b[order], resident_params_b=resident)

    rows = np.arange(len(share))
    np.testing.assert_array_equal(
        quality[rows, list(found.experts)], quality[:, order][rows, list(turned.experts)]
    )
    assert found.resident_params_b == turned.resident_params_b


def test_without_a_budget_each_category_has_its_best_expert():
    found = solve_mapping(QUALITY, SHARE, PARAMS_B)

    assert found.experts == (0, 1)
    assert found.residents == (0, 1)
    assert (found.resident_params_b, found.active_params_b) == (11, 5.5)


@pytest.mark.parametrize(
    ("budget", "experts"),
    [
        ({"resident_params_b": 8}, (0, 0)),
        ({"resident_params_b": 4}, (1, 1)),
        ({"active_params_b": 4}, (1, 1)),
        ({"active_params_b": 5.5}, (0, 1)),
        ({"active_params_b": 4.5}, (0, 2)),
        ({"active_params_b": 4.5, "resident_params_b": 8}, (1, 1)),
    ],
)
def test_a_budget_leaves_experts_out(budget: dict[str, float], experts: tuple[int, ...]):
    assert solve_mapping(QUALITY, SHARE, PARAMS_B, **budget).experts == experts


def test_a_category_without_a_share_takes_the_best_of_the_others_experts():
    quality = np.vstack([QUALITY, [[0.1, 0.2, 0.9]]])
    share = np.array([0.5, 0.5, 0.0])

    assert solve_mapping(quality, share, PARAMS_B, resident_params_b=11).experts == (0, 1, 1)


@pytest.mark.parametrize("setting", ["resident_params_b", "active_params_b"])
def test_a_budget_that_nothing_meets_is_refused_with_the_smallest_that_is_met(setting: str):
    with pytest.raises(ConfigError, match=rf"'{setting}' 0.5 .*; give 1 or more"):
        solve_mapping(QUALITY, SHARE, PARAMS_B, **{setting: 0.5})
    solve_mapping(QUALITY, SHARE, PARAMS_B, **{setting: 1})


def test_a_mapping_comes_back_from_json():
    found = solve_mapping(QUALITY, SHARE, PARAMS_B)

    assert restore_mapping(json.loads(json.dumps(asdict(found)))) == found
