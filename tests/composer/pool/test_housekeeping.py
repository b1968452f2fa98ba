import asyncio
from typing import Any, cast

import pytest

from composer.experts import PoolSettings
from composer.pool import housekeeping
from composer.pool.fleet import Fleet
from composer.pool.held import Held
from composer.pool.housekeeping import Housekeeper


class UncertainFleet:
    """A fleet that cannot tell at first which of its machines are there."""

    def __init__(self, n_failures: int, lost: Held) -> None:
        self.left = n_failures
        self._lost = [lost]

    async def lost(self) -> list[Held]:
        if self.left:
            self.left -= 1
            raise ConnectionError("no answer")
        found, self._lost = self._lost, []
        return found


async def test_a_cluster_that_cannot_be_asked_for_a_while_is_watched_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "WATCH_S", 0.0)
    gone = cast("Held", object())
    lost = asyncio.Queue[tuple[Held, str]]()

    async def lose(held: Held, reason: str) -> None:
        await lost.put((held, reason))

    settings = PoolSettings.model_validate({"node_resource": "expert"})
    fleet: Any = UncertainFleet(2, gone)
    keeper = Housekeeper(settings, cast("Fleet", fleet), is_idle=lambda: False, lose=lose)
    keeper.watch()
    try:
        async with asyncio.timeout(10):
            assert await lost.get() == (gone, "its machine has left the cluster")
    finally:
        await keeper.close()
    assert fleet.left == 0
