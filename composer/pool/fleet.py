"""The runners that there are: started, loaded, emptied, killed, inside the memory budget."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

from composer.backends import GIB, backend_entry
from composer.errors import ConfigError, ExpertUnavailable
from composer.experts import PoolSettings
from composer.pool.eviction import Evictor
from composer.pool.footprint import Footprint, Footprints, Need
from composer.pool.held import Held
from composer.pool.inline_runner import InlineRunner
from composer.pool.residency import Holding, Placement, Refusal, Wait, keeps_process, place
from composer.types import EngineSpec

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.75
"""Of the machine's memory, where experts.yaml says nothing."""


class NoRoomYet(Exception):
    """Whoever could make room is busy, or has not been loaded long enough."""

    def __init__(self, until_s: float | None) -> None:
        super().__init__(until_s)
        self.until_s = until_s


class Fleet:
    """All runners of a pool. Decisions are made between awaits, so no two contradict each other."""

    def __init__(self, settings: PoolSettings, footprints: Footprints) -> None:
        self._settings = settings
        self._footprints = footprints
        self._evictor = Evictor(settings.eviction)
        self._held: dict[int, Held] = {}
        self.n_loads = 0
        self._numbers = itertools.count(1)
        self._spare: tuple[Held, asyncio.Task[None]] | None = None
        self._cluster: Any = None
        self.now: Callable[[], float] = time.monotonic

    @property
    def budget_bytes(self) -> int:
        """What all local runners together may hold."""
        if self._settings.memory_gib is not None:
            return int(self._settings.memory_gib * GIB)
        return int(MEMORY_SHARE * psutil.virtual_memory().total)

    @property
    def threads(self) -> int:
        """OpenMP threads of one runner: its share of the cores."""
        cores = self._settings.cores or os.cpu_count() or 1
        return max(1, cores // self._settings.busy_engines)

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held.values()))

    def find(self, key: str) -> Held | None:
        """The runner that holds an engine, or is about to."""
        return next((h for h in self if h.spec is not None and h.spec.key == key), None)

    async def bring_up(self, spec: EngineSpec, *, pinned: bool = False) -> Held:
        """Have a runner hold the engine, making room as the policy says.

        Raises:
            NoRoomYet: Ask again when something has changed.
            ConfigError: It does not fit the budget, or the spec cannot work.
            ExpertUnavailable: It did not load, or not within the deadline.
        """
        if self._spare is not None and backend_entry(spec.engine).is_local:
            await asyncio.wait([self._spare[1]])
        started_s = time.perf_counter()
        held, need = await self._make_room(spec)
        held.is_pinned = pinned
        try:
            async with asyncio.timeout(self._settings.load_deadline_s):
                loaded = await held.runner.load(spec)
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
        self._use(held, spec)
        held.is_moving = False
        if held.how != "reused" and not held.is_inline:
            self._footprints.record(spec.key, Footprint(loaded.peak_bytes, loaded.seconds))
        logger.info(
            "%s is up in %.1f s (%s runner, %.2f GiB, need was %s)",
            spec.key, time.perf_counter() - started_s, held.how, held.bytes / GIB, need,
        )  # fmt: skip
        return held

    def serve(self, held: Held) -> None:
        """Take note that an engine has served a request."""
        assert held.spec is not None
        self._evictor.count(held.spec.key)
        self._use(held, held.spec)

    def foresee(self, keys: Sequence[str]) -> None:
        """Say in what order engines are wanted next; empty: nothing is known of it."""
        self._evictor.foresee(keys)

    async def drop(self, held: Held) -> None:
        """End a runner, whatever it is doing."""
        self._held.pop(held.number, None)
        await held.runner.kill()

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
        wanted = self._settings.warm_spares
        warm = sum(h.spec is None for h in self if not h.is_inline)
        base = self._footprints.base_bytes("vllm")
        free = self.budget_bytes - sum(h.bytes for h in self)
        if self._spare is not None or warm >= wanted or base > free:
            return
        held = self._start("vllm", base)
        task = asyncio.create_task(self._warm_up(held))
        self._spare = (held, task)

    async def preempt_spare(self) -> None:
        """End a spare that is still importing: someone needs the core now."""
        if self._spare is not None:
            held, task = self._spare
            task.cancel()
            await asyncio.wait([task])
            await self.drop(held)

    @property
    def is_warming(self) -> bool:
        """Whether a spare is importing."""
        return self._spare is not None

    async def start_cluster(self) -> None:
        """Start Ray, which runners in processes of their own need."""
        if self._cluster is None:
            module = await asyncio.to_thread(importlib.import_module, "composer.pool.ray_runner")
            self._cluster = self._cluster or module.RayCluster()
        await self._cluster.start()

    async def close(self) -> None:
        """End every runner, and Ray if it was started here."""
        if self._spare is not None:
            self._spare[1].cancel()
            await asyncio.wait([self._spare[1]])
        async with asyncio.TaskGroup() as ending:
            for held in self:
                ending.create_task(self.drop(held))
        if self._cluster is not None:
            await self._cluster.stop()

    async def _make_room(self, spec: EngineSpec) -> tuple[Held, Need]:
        """Reserve memory for the engine, carry out the placement, return a runner to load into."""
        need = self._footprints.need(spec)
        if not backend_entry(spec.engine).is_local:
            return self._start_for(spec, 0), need
        placement = place(
            need.total_bytes,
            [self._view(h) for h in self if h.is_local],
            budget_bytes=self.budget_bytes,
            now_s=self.now(),
            min_loaded_s=self._settings.min_loaded_s,
        )
        match placement:
            case Refusal(_, budget):
                raise ConfigError(
                    f"expert {spec.experts[0]!r} needs {need} and "
                    f"{budget / GIB:.2f} GiB may be used; raise pool.memory_gib, lower "
                    "engine_args.kv_cache_memory_bytes or unpin an expert"
                )
            case Wait(until_s):
                raise NoRoomYet(until_s)
            case Placement():
                pass
        held, victims = self._claim(spec, need, placement)
        for victim in victims:
            await victim.runner.kill()
        if held.how == "reused":
            return await self._empty(held, spec, need), need
        return held, need

    def _use(self, held: Held, spec: EngineSpec) -> None:
        held.used_at_s = self.now()
        held.credit = self._evictor.credit(
            spec.key, at_s=held.used_at_s, load_s=held.load_s, held_bytes=held.bytes
        )

    def _view(self, held: Held) -> Holding:
        key = held.spec.key if held.spec is not None else ""
        return held.holding(self._evictor.worth(key, held.credit))

    def _claim(self, spec: EngineSpec, need: Need, placement: Placement) -> tuple[Held, list[Held]]:
        """Write down who takes the engine and who goes, before anyone else can decide anything."""
        victims = [self._held.pop(number) for number in placement.kill]
        held = self._held[placement.runner] if placement.runner is not None else None
        gone = victims if held is None else [*victims, held]
        self._evictor.evict(h.credit for h in gone if h.spec is not None)
        if held is not None and held.kind != (spec.engine, spec.runner):
            victims.append(self._held.pop(held.number))
            held = None
        if held is None:
            return self._start_for(spec, need.total_bytes), victims
        held.spec, held.how, held.is_moving = spec, placement.how, True
        held.bytes = max(held.bytes, need.total_bytes)
        return held, victims

    async def _empty(self, held: Held, spec: EngineSpec, need: Need) -> Held:
        """The runner without the engine it held; another one where it stays too large."""
        free = self.budget_bytes - sum(h.bytes for h in self if h is not held)
        try:
            left = await held.runner.unload()
            if keeps_process(left, need.total_bytes, need.base_bytes, free):
                return held
        except ExpertUnavailable as exc:
            logger.warning("a runner could not be emptied: %s", exc)
        await self.drop(held)
        return self._replacement(spec, need)

    def _replacement(self, spec: EngineSpec, need: Need) -> Held:
        """A warm spare for an engine whose emptied runner was too large to keep, or a new one."""
        spare = next((h for h in self if h.spec is None and h.engine == spec.engine), None)
        if spare is None:
            return self._start_for(spec, need.total_bytes)
        spare.spec, spare.how, spare.is_moving = spec, "warm", True
        spare.bytes = need.total_bytes
        return spare

    def _start_for(self, spec: EngineSpec, need_bytes: int) -> Held:
        if spec.runner == "ray":
            return self._start(spec.engine, need_bytes, spec)
        held = Held(
            next(self._numbers), InlineRunner(spec.engine), spec.engine, True, need_bytes, spec
        )
        self._held[held.number] = held
        return held

    def _start(self, engine: str, need_bytes: int, spec: EngineSpec | None = None) -> Held:
        from composer.pool.ray_runner import RayRunner

        options: Mapping[str, Any] = self._settings.ray
        runner = RayRunner(engine, threads=self.threads, options=options)
        held = Held(next(self._numbers), runner, engine, False, need_bytes, spec)
        self._held[held.number] = held
        return held

    async def _warm_up(self, held: Held) -> None:
        from composer.pool.ray_runner import RayRunner

        assert isinstance(held.runner, RayRunner)
        try:
            status = await held.runner.started()
            held.bytes = status.memory_bytes
            self._footprints.record_base(held.engine, status.memory_bytes)
            held.is_moving = False
        except ExpertUnavailable as exc:
            logger.warning("a warm spare did not start: %s", exc)
            await self.drop(held)
        finally:
            self._spare = None
