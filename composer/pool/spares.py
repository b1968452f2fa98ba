"""Warm spares: processes that have imported their engine's library and wait for an engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from composer.errors import ExpertUnavailable
from composer.experts import PoolSettings
from composer.pool.footprint import Footprints
from composer.pool.held import Held
from composer.pool.nodes import PoolNode
from composer.pool.ray_runner import RayRunner
from composer.pool.runners import Runners

logger = logging.getLogger(__name__)

ENGINE = "vllm"
"""The library that takes so long to import that spares are worth their memory."""


class Spares:
    """Starts them, one at a time: an import takes a core."""

    def __init__(self, settings: PoolSettings, footprints: Footprints, runners: Runners) -> None:
        self._settings = settings
        self._footprints = footprints
        self._runners = runners
        self._warming: tuple[Held, asyncio.Task[None]] | None = None

    def begin(self, nodes: Iterable[PoolNode], held: Iterable[Held]) -> None:
        """Start one where one is wanted and fits, unless one is importing."""
        if self._warming is not None:
            return
        runners, base = list(held), self._footprints.base_bytes(ENGINE)
        for node in nodes:
            mine = [h for h in runners if h.node == node.name]
            warm = sum(h.spec is None for h in mine if not h.is_inline)
            free = node.memory_bytes - sum(h.bytes for h in mine)
            if warm < self._settings.warm_spares and base <= free:
                started = self._runners.start(ENGINE, base, node)
                self._warming = started, asyncio.create_task(self._warm_up(started))
                return

    async def settle(self) -> None:
        """Wait for the one that is importing."""
        if self._warming is not None:
            await asyncio.wait([self._warming[1]])

    async def end(self) -> None:
        """End the one that is importing: someone needs the core now."""
        if self._warming is not None:
            held, task = self._warming
            task.cancel()
            await asyncio.wait([task])
            await self._runners.drop(held)

    async def _warm_up(self, held: Held) -> None:
        assert isinstance(held.runner, RayRunner)
        try:
            status = await held.runner.started()
            held.bytes = status.memory_bytes
            self._footprints.record_base(held.engine, status.memory_bytes)
            held.is_moving = False
        except ExpertUnavailable as exc:
            logger.warning("a warm spare did not start: %s", exc)
            await self._runners.drop(held)
        finally:
            self._warming = None
