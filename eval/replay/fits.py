"""What is fitted already, so that parts and methods of one replay share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from composer.outcomes import OutcomeTable

FittedT = TypeVar("FittedT")


class Fits:
    """Fits each router and each aggregator once on each table.

    A table is known by being the same object: that of several parts that train on the same rows.
    """

    def __init__(self) -> None:
        self._fitted: dict[tuple[str, int], tuple[OutcomeTable, Any]] = {}

    def fit(
        self, name: str, fit: Callable[[OutcomeTable], FittedT], train: OutcomeTable
    ) -> FittedT:
        """What has that name, fitted on this table now or before."""
        key = (name, id(train))
        if key not in self._fitted:
            # The table is kept, so that no other one can get its id.
            self._fitted[key] = (train, fit(train))
        return cast("FittedT", self._fitted[key][1])
