"""Routers that are fitted already, so that parts and methods of one replay share them."""

from __future__ import annotations

from collections.abc import Callable

from composer.outcomes import OutcomeTable
from composer.protocols import FittedRouter


class Fits:
    """Fits each router once on each table.

    A table is known by being the same object: that of several parts that train on the same rows.
    """

    def __init__(self) -> None:
        self._fitted: dict[tuple[str, int], tuple[OutcomeTable, FittedRouter]] = {}

    def fit(self, name: str, make: Callable[[], FittedRouter], train: OutcomeTable) -> FittedRouter:
        """The router of that name, fitted on this table now or before."""
        key = (name, id(train))
        if key not in self._fitted:
            # The table is kept, so that no other one can get its id.
            self._fitted[key] = (train, make().fit(train))
        return self._fitted[key][1]
