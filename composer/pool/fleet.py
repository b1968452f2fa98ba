"""The runners that there are: loaded, woken, measured and ended, inside the budgets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from composer.backends import GIB, backend_entry
from composer.errors import ExpertUnavailable
from composer.experts import PoolSettings
from composer.pool.footprint import Footprint, Footprints
from composer.pool.held import Held
from composer.pool.nodes import Nodes, PoolNode
from composer.pool.placing import NoRoomYet, Placer
from composer.pool.runners import Runners
from composer.types import EngineSpec

logger = logging.getLogger(__name__)


class Fleet:
    """All runners of a pool."""

    def __init__(self, settings: PoolSettings, footprints: Footprints) -> None:
        self._settings = settings
        self._footprints = footprints
        self._nodes = Nodes(settings)
        self._runners = Runners(settings)
        self._placer = Placer(settings, self._nodes, self._runners)
        self._spares: Any = None
        self.n_loads = 0

    def __iter__(self) -> Iterator[Held]:
        return iter(self._runners)

    @property
    def nodes(self) -> Sequence[PoolNode]:
        """The machines that experts with a process of their own run on, as far as is known."""
        return tuple(self._nodes.found.values())

    @property
    def slots(self) -> Mapping[str, int]:
        """How many engines generate at one time, by machine."""
        return self._nodes.slots

    def nodes_for(self, spec: EngineSpec) -> tuple[str, ...]:
        """The machine that holds an engine; if none does, those that it may be loaded on."""
        held = self.find(spec.copy_key)
        if held is not None:
            return (held.node,)
        return tuple(node.name for node in self._nodes.of(spec.runner))

    def find(self, copy_key: str) -> Held | None:
        """The runner that holds a copy of an engine, awake or asleep, or is about to."""
        return self._runners.find(copy_key)

    def now(self) -> float:
        """The time on the policies' clock, in seconds."""
        return self._placer.now()

    async def bring_up(
        self, spec: EngineSpec, *, pinned: bool = False, ahead: bool = False
    ) -> Held:
        """Have a runner hold the engine, awake, making room as the policies say.

        Args:
            spec: The engine, and which copy of it.
            pinned: Whether it never makes room for others.
            ahead: Whether it may be loaded although all slots are taken.

        Raises:
            NoRoomYet: Ask again when something has changed.
            ConfigError: It does not fit the budget, or the spec cannot work.
            ExpertUnavailable: It did not load, or not within the deadline.
        """
        if self._spares is not None and backend_entry(spec.engine).is_local:
            await self._spares.settle()
        started_s = time.perf_counter()
        need = self._footprints.need(spec)
        asleep = self.find(spec.copy_key)
        if asleep is not None:
            if asleep.is_moving or asleep.node not in self._nodes:
                raise NoRoomYet(None)
            await self._placer.make_way(asleep, spec, need)
        elif spec.runner == "ray":
            await self._nodes.look()
        held = asleep or await self._placer.make_room(spec, need, ahead=ahead)
        held.is_pinned = pinned
        try:
            async with asyncio.timeout(self._settings.load_deadline_s):
                loaded = await (held.runner.wake() if asleep else held.runner.load(spec))
        except TimeoutError:
            await self.drop(held)
            limit = self._settings.load_deadline_s
            raise ExpertUnavailable(
                spec.experts[0],
                f"it did not load within {limit:.0f} s; raise pool.load_deadline_s",
            ) from None
        except BaseException:
            await self.drop(held)
            raise
        held.bytes = loaded.memory_bytes
        self.n_loads += 1
        held.load_s = loaded.seconds
        held.loaded_at_s = self.now()
        self._placer.use(held)
        held.is_moving = False
        if asleep is not None:
            self._footprints.record_wake(spec.key, loaded.seconds)
        elif held.how != "reused" and not held.is_inline:
            self._footprints.record(spec.key, Footprint(loaded.peak_bytes, loaded.seconds))
        logger.info(
            "%s is up in %.1f s (%s, %.2f GiB, need was %s)",
            spec.copy_key, time.perf_counter() - started_s,
            "it slept" if asleep else f"{held.how} runner", held.bytes / GIB, need,
        )  # fmt: skip
        return held

    def serve(self, held: Held) -> None:
        """Take note that an engine has served a request."""
        assert held.spec is not None
        self._placer.evictor.count(held.spec.key)
        self._placer.use(held)

    def foresee(self, keys: Sequence[str]) -> None:
        """Say in what order engines are wanted next; empty: nothing is known of it."""
        self._placer.evictor.foresee(keys)

    async def drop(self, held: Held) -> None:
        """End a runner, whatever it is doing."""
        await self._runners.drop(held)

    async def refresh(self, held: Held) -> None:
        """Measure again what an idle runner holds."""
        if held.spec is not None and not held.is_moving and not held.is_inline:
            try:
                held.bytes = await held.runner.memory_bytes()
            except ExpertUnavailable:
                await self.drop(held)
                return
            self._footprints.grow(held.spec.key, held.bytes)

    def start_spare(self) -> None:
        """Start a runner that imports vLLM and waits, if one is wanted and fits."""
        if self._spares is not None:
            self._spares.begin(self.nodes, self)

    async def preempt_spare(self) -> None:
        """End a spare that is still importing: someone needs the core now."""
        if self._spares is not None:
            await self._spares.end()

    async def start_cluster(self) -> None:
        """Start Ray, which runners in processes of their own need, and find its machines.

        Raises:
            ConfigError: It does not come up.
        """
        await self._nodes.start()
        if self._spares is None:
            from composer.pool.spares import Spares

            self._spares = Spares(self._settings, self._footprints, self._runners)

    async def lost(self) -> list[Held]:
        """Runners on machines that have left the cluster."""
        await self._nodes.look()
        return [h for h in self if not h.is_inline and h.node not in self._nodes.found]

    async def close(self) -> None:
        """End every runner, and Ray if it was started here."""
        if self._spares is not None:
            await self._spares.end()
        async with asyncio.TaskGroup() as ending:
            for held in self:
                ending.create_task(self.drop(held))
        await self._nodes.stop()
