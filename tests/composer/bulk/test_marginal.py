"""What one more query on a cold expert is held to cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from composer.bulk.marginal import LoadSaving, marginal_load_s
from composer.experts import ChooseRule

if TYPE_CHECKING:
    from composer.types import Float32Array

EXPERTS = ("warm", "cold")


def saved(
    quality: list[list[float]], load_s: list[float], *, load_weight: float, k: int = 1
) -> tuple[Float32Array, LoadSaving]:
    rows = np.array(quality, np.float32)
    rule = ChooseRule(k=k, load_weight=load_weight)
    experts = EXPERTS if rows.shape[1] == 2 else tuple(f"e{i}" for i in range(rows.shape[1]))
    return marginal_load_s(experts, rows, np.zeros_like(rows), np.array(load_s, np.float32), rule)


def test_a_query_worth_hardly_more_on_a_cold_expert_stays_on_a_warm_one() -> None:
    marginal, saving = saved([[0.6, 0.601]], [0.0, 10.0], load_weight=0.001)

    assert marginal.tolist() == [0.0, 10.0]
    assert saving.spared == ("cold",)
    assert saving.loaded == ()
    assert saving.seconds == 10.0
    assert abs(saving.quality - 0.001) < 1e-6


def test_an_expert_that_many_need_is_loaded_for_them_all() -> None:
    marginal, saving = saved([[0.6, 0.65]] * 100, [0.0, 10.0], load_weight=0.01)

    assert abs(float(marginal[1]) - 0.1) < 1e-6
    assert saving == LoadSaving(0.0, 0.0, ("cold",), ())


def test_queries_that_leave_make_the_load_dearer_for_those_that_stay() -> None:
    quality = [[0.6, 0.605]] * 9 + [[0.6, 0.65]]

    _, saving = saved(quality, [0.0, 10.0], load_weight=0.01)

    assert saving.spared == ("cold",)


def test_an_expert_whose_quality_is_unknown_is_not_counted() -> None:
    _, saving = saved([[0.6, np.nan]], [0.0, 10.0], load_weight=0.01)

    assert saving == LoadSaving(0.0, 0.0, (), ())


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=30),
    st.lists(st.sampled_from([0.0, 5.0, 50.0]), min_size=4, max_size=4),
    st.floats(0.0001, 0.1),
    st.integers(1, 4),
)
def test_no_expert_is_loaded_that_was_not_wanted_and_no_quality_is_gained(
    quality: list[list[float]], load_s: list[float], load_weight: float, k: int
) -> None:
    marginal, saving = saved(quality, load_s, load_weight=load_weight, k=k)

    assert saving.quality >= -1e-6
    assert not {*saving.loaded} & {*saving.spared}
    assert saving.seconds == sum(load_s[int(name[1:])] for name in saving.spared)
    assert ((marginal >= 0) & (marginal <= np.array(load_s) + 1e-6)).all()
