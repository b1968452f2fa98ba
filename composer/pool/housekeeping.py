"""What a pool does unasked: spares, measuring anew, and watching the machines of a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from composer.errors import ComposerError
from composer.experts import PoolSettings
from composer.pool.fleet import Fleet
from composer.pool.held import Held

logger = logging.getLogger(__name__)

IDLE_BEFORE_SPARE_S = 2.0
"""How long nothing runs before a spare may use a core to import its engine."""
WATCH_S = 2.0
"""How often it is looked which machines of a cluster are there."""


class Housekeeper:
    """Does that beside the dispatcher."""

    def __init__(
        self,
        settings: PoolSettings,
        fleet: Fleet,
        *,
        is_idle: Callable[[], bool],
        lose: Callable[[Held, str], Awaitable[None]],
    ) -> None:
        """Store what is needed.

        Args:
            settings: The pool's.
            fleet: Its runners.
            is_idle: Whether nothing waits, loads or runs.
            lose: Ends a runner and has what it had not finished run elsewhere; with the reason.
        """
        self._settings = settings
        self._fleet = fleet
        self._is_idle = is_idle
        self._lose = lose
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    def prewarm(self) -> None:
        """Start Ray and a spare ahead of the first request."""
        self._spawn(self._prewarm())

    def await_idleness(self) -> None:
        """After a while of nothing to do, measure anew and have a spare import its engine."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_BEFORE_SPARE_S, self._on_idle)

    def watch(self) -> None:
        """Watch the machines of the cluster, if there is one to watch."""
        if self._settings.node_resource is not None and self._watching is None:
            self._watching = self._spawn(self._watch())

    async def close(self) -> None:
        """End all that goes on."""
        if self._timer is not None:
            self._timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _prewarm(self) -> None:
        try:
            await self._fleet.start_cluster()
            self._fleet.start_spare()
        except ComposerError as exc:
            logger.warning("no runner was started ahead of time: %s", exc)

    def _on_idle(self) -> None:
        if not self._is_idle():
            return
        for held in self._fleet:
            self._spawn(self._fleet.refresh(held))
        if any(not held.is_inline for held in self._fleet):
            self._fleet.start_spare()

    async def _watch(self) -> None:
        while True:
            try:
                for held in await self._fleet.lost():
                    await self._lose(held, "its machine has left the cluster")
            except Exception:
                logger.warning("the cluster's machines cannot be told", exc_info=True)
            await asyncio.sleep(WATCH_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
