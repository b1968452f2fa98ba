from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConfigError
from routers.settings import check_choice, check_number, check_settings


@given(st.floats(0.5, 8) | st.integers(1, 8))
def test_a_number_within_its_range_is_right(value: float):
    check_number("made", "heat", value, least=0.5, most=8)


@pytest.mark.parametrize("value", [0, 1, 1e308, 10**30])
def test_a_number_is_at_least_zero_and_as_large_as_one_likes_unless_told_otherwise(value: float):
    check_number("made", "heat", value)


@pytest.mark.parametrize("value", [-1e-9, -3, math.nan, math.inf, True, "1", None, [1], 1j])
def test_what_is_no_such_number_is_refused(value: Any):
    with pytest.raises(ConfigError) as error:
        check_number("made", "heat", value)

    assert str(error.value) == f"router 'made': 'heat' is {value!r}; give a number from 0"


@pytest.mark.parametrize("value", [0.4, 8.5, -math.inf])
def test_a_number_out_of_its_range_is_answered_with_the_range(value: float):
    with pytest.raises(ConfigError) as error:
        check_number("made", "heat", value, least=0.5, most=8)

    assert str(error.value) == f"router 'made': 'heat' is {value!r}; give a number from 0.5 to 8"


@pytest.mark.parametrize("value", [2.0, 2.5, True, "2"])
def test_what_is_no_whole_number_is_refused_where_one_is_asked(value: Any):
    with pytest.raises(ConfigError) as error:
        check_number("made", "k", value, least=1, whole=True)

    assert str(error.value) == f"router 'made': 'k' is {value!r}; give a whole number from 1"


def test_none_is_right_where_a_number_may_be_left_out():
    check_number("made", "k", None, least=1, optional=True)


def test_the_remedy_says_when_a_number_may_be_left_out():
    with pytest.raises(ConfigError) as error:
        check_number("made", "k", 0, least=1, most=9, whole=True, optional=True)

    assert str(error.value) == (
        "router 'made': 'k' is 0; give a whole number from 1 to 9, or leave it out"
    )


def test_one_of_the_choices_is_right():
    check_choice("made", "pool", "max", ("max", "mean"))


@pytest.mark.parametrize("value", ["all", None, True, 3, [3]])
def test_what_is_none_of_the_choices_is_answered_with_them(value: Any):
    with pytest.raises(ConfigError) as error:
        check_choice("made", "pool", value, ("max", "mean"))

    assert str(error.value) == (f"router 'made' has no pool {value!r}; choose from ['max', 'mean']")


def test_a_misspelt_choice_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no pool 'maxx'; did you mean 'max'\? choose from"):
        check_choice("made", "pool", "maxx", ("max", "mean"))


def test_settings_that_a_router_takes_are_right():
    check_settings("made", {"a": 1, "b": 2}, required=("a",), optional=("b", "c"))


def test_a_setting_that_a_router_does_not_take_is_answered_with_those_that_it_does():
    with pytest.raises(ConfigError) as error:
        check_settings("made", {"pol": 1}, required=("k",), optional=("pool",))

    assert str(error.value) == (
        "router 'made' has no setting 'pol'; did you mean 'pool'? choose from ['k', 'pool']"
    )


def test_a_router_without_settings_says_that_it_takes_none():
    with pytest.raises(ConfigError, match=r"^router 'made' has no setting 'k'; it takes none$"):
        check_settings("made", {"k": 1})


def test_a_setting_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"^router 'made' needs the setting 'k'; add it$"):
        check_settings("made", {"pool": 1}, required=("k",), optional=("pool",))
