"""Aggregators that can run on recorded answers, and making one: fitted on train where it learns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from composer.aggregators import AGGREGATORS, make_aggregator
from composer.aggregators.fitted import FITTED_AGGREGATORS, fit_aggregator
from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from composer.protocols import Aggregator
from composer.suggest import suggest
from eval.replay.fits import Fits

MakeAggregator = Callable[[OutcomeTable], Aggregator]


@dataclass(frozen=True, slots=True)
class Replayed:
    """An aggregator as a method of a replay."""

    name: str
    """In `composer.aggregators.AGGREGATORS`."""
    k: int | None
    """How many experts it is given unless told; None: all."""


REPLAYED: Mapping[str, Replayed] = {
    "vote-majority": Replayed("vote", 3),
    "vote-weighted": Replayed("vote-weighted", None),
    "vote-learned": Replayed("vote-learned", None),
}
"""By the name that methods call it."""


def aggregator_maker(name: str, settings: Mapping[str, Any], fits: Fits) -> MakeAggregator:
    """What makes an aggregator for a round, of the round's train rows.

    Args:
        name: In `AGGREGATORS`.
        settings: Those it is fitted by and those it runs by, together.
        fits: Shared, so that it is fitted once on a table however it then runs.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    if name not in FITTED_AGGREGATORS:
        made = make_aggregator(name, settings)
        return lambda train: made
    by = [p for p in inspect.signature(FITTED_AGGREGATORS[name]()).parameters if p != "table"]
    runs_by = [p for p in inspect.signature(AGGREGATORS[name]).parameters if p != "from_"]
    known = [*by, *runs_by]
    for setting in settings:
        if setting not in known:
            raise ConfigError(
                f"aggregator {name!r} has no setting {setting!r}; {suggest(setting, known)}"
            )
    fitting = {key: value for key, value in settings.items() if key in by}
    running = {key: value for key, value in settings.items() if key not in by}
    key = f"{name}{sorted(fitting.items())}"

    def make(train: OutcomeTable) -> Aggregator:
        fitted = fits.fit(key, partial(fit_aggregator, name, settings=fitting), train)
        # By way of the disk: as experts.yaml has it.
        with TemporaryDirectory() as folder:
            fitted.save(Path(folder))
            return make_aggregator(name, {**running, "from": folder})

    return make
