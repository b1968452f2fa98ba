"""The aggregators that learn from recorded outcomes, and how each is fitted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from composer.errors import ConfigError
from composer.protocols import Aggregator
from composer.suggest import suggest, unknown_name

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable


class FittedAggregator(Aggregator, Protocol):
    """An aggregator that has learned, and can be kept."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """What it learned and how well it does on held-out rows: JSON values."""
        ...

    def save(self, folder: Path) -> None:
        """Write what it learned; its setting `from` reads it."""
        ...


def _cascade() -> Callable[..., FittedAggregator]:
    from composer.aggregators.cascade.fit import fit_cascade

    return fit_cascade


def _ensemble() -> Callable[..., FittedAggregator]:
    from composer.aggregators.ensemble.fit import fit_ensemble

    return fit_ensemble


def _learned_vote() -> Callable[..., FittedAggregator]:
    from composer.aggregators.vote.fitting import fit_learned_vote

    return fit_learned_vote


def _weighted_vote() -> Callable[..., FittedAggregator]:
    from composer.aggregators.vote.fitting import fit_weighted_vote

    return fit_weighted_vote


FITTED_AGGREGATORS: Mapping[str, Callable[..., Callable[..., FittedAggregator]]] = {
    "cascade": _cascade,
    "vote-learned": _learned_vote,
    "vote-weighted": _weighted_vote,
    "ensemble": _ensemble,
}
"""Gives the function that fits: (table, **settings) -> fitted; what it needs is heavy to import."""


def fit_aggregator(name: str, table: OutcomeTable, settings: Mapping[str, Any]) -> FittedAggregator:
    """An aggregator that has learned from all rows of a table.

    Raises:
        ConfigError: None of the name learns, a setting is unknown, or the table cannot teach it.
    """
    if name not in FITTED_AGGREGATORS:
        raise ConfigError(unknown_name("aggregator that learns", name, FITTED_AGGREGATORS))
    fit = FITTED_AGGREGATORS[name]()
    known = [p for p in inspect.signature(fit).parameters if p != "table"]
    for setting in settings:
        if setting not in known:
            raise ConfigError(
                f"aggregator {name!r} has no setting {setting!r} to fit by; "
                f"{suggest(setting, known)}"
            )
    return fit(table, **settings)
