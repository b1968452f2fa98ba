"""What every aggregator that learns promises, and what is refused before it does."""

from __future__ import annotations

import inspect

import pytest

from composer.aggregators import AGGREGATORS
from composer.aggregators.fitted import FITTED_AGGREGATORS, fit_aggregator
from composer.errors import ConfigError
from tests.composer.aggregators.voting import recorded

EVERY = pytest.mark.parametrize("name", sorted(FITTED_AGGREGATORS))
TABLE = recorded([("AAB", "A"), ("BCB", "B")])


@EVERY
def test_an_aggregator_that_learns_can_be_called_by_its_name_from_what_it_saved(name: str) -> None:
    assert "from_" in inspect.signature(AGGREGATORS[name]).parameters


@EVERY
def test_a_table_comes_first_and_settings_by_name(name: str) -> None:
    first, *others = inspect.signature(FITTED_AGGREGATORS[name]()).parameters.values()

    assert first.name == "table"
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in others)


@EVERY
def test_an_unknown_setting_to_fit_by_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"aggregator '{name}' has no setting 'colour' to fit by"):
        fit_aggregator(name, TABLE, {"colour": "red"})


def test_a_misspelt_setting_comes_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_loss'"):
        fit_aggregator("vote-learned", TABLE, {"max_los": 0.1})


def test_the_table_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="no setting 'table'"):
        fit_aggregator("vote-learned", TABLE, {"table": "mine"})


def test_an_aggregator_that_does_not_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="no aggregator that learns 'best'; choose from"):
        fit_aggregator("best", TABLE, {})
