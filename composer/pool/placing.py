"""Makes room for engines and says which runner takes them, as the policies say.

Whoever takes an engine and whoever goes is written down before anything is awaited.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from composer.backends import GIB, backend_entry
from composer.errors import ConfigError, ExpertUnavailable
from composer.experts import PoolSettings
from composer.pool.eviction import Evictor
from composer.pool.footprint import Need
from composer.pool.held import Held
from composer.pool.nodes import Nodes, PoolNode, no_machine
from composer.pool.offers import Offer, best_offer, offer
from composer.pool.residency import Refusal, Wait, keeps_process
from composer.pool.runners import Runners
from composer.pool.tiers import Level, OnGpu, Room, make_room
from composer.types import EngineSpec

logger = logging.getLogger(__name__)


class NoRoomYet(Exception):
    """Whoever could make room is busy, or has not been loaded long enough."""

    def __init__(self, until_s: float | None) -> None:
        super().__init__(until_s)
        self.until_s = until_s


class Placer:
    """Decides between awaits, so that no two decisions contradict each other."""

    def __init__(self, settings: PoolSettings, nodes: Nodes, runners: Runners) -> None:
        self._settings = settings
        self._nodes = nodes
        self._runners = runners
        self.evictor = Evictor(settings.eviction)
        self.now: Callable[[], float] = time.monotonic

    def use(self, held: Held) -> None:
        """Take note that a runner's engine has been loaded or has served a request."""
        assert held.spec is not None
        held.used_at_s = self.now()
        held.credit = self.evictor.credit(
            held.spec.key, at_s=held.used_at_s, load_s=held.load_s, held_bytes=held.bytes
        )

    async def make_way(self, held: Held, spec: EngineSpec, need: Need) -> None:
        """Make room on the GPU for an engine that sleeps.

        Raises:
            NoRoomYet: Ask again when something has changed.
            ConfigError: Those that are pinned leave too little of it.
        """
        node = self._nodes[held.node]
        mine = self._runners.on(node)
        room = make_room(
            held.gpu_bytes,
            [self._on_gpu(h) for h in mine if h is not held and h.spec is not None],
            gpu_bytes=node.engine_bytes,
            host_free_bytes=max(0, node.memory_bytes - sum(h.bytes for h in mine)),
            now_s=self.now(),
            min_loaded_s=self._settings.min_loaded_s,
        )
        if isinstance(room, Refusal):
            raise _refused(spec, need, room)
        if isinstance(room, Wait):
            raise NoRoomYet(room.until_s)
        held.level, held.is_moving, held.how = 0, True, "reused"
        await self._leave_gpu(self._write_down(room))

    async def make_room(self, spec: EngineSpec, need: Need, *, ahead: bool) -> Held:
        """Reserve memory for an engine, carry out the placement, return a runner to load into.

        Raises:
            NoRoomYet: Ask again when something has changed.
            ConfigError: It fits nowhere, or there is no machine.
        """
        if not backend_entry(spec.engine).is_local:
            return self._runners.start_for(spec, Need(0, 0, is_measured=False), self._nodes.here)
        nodes = self._nodes.of(spec.runner)
        if not nodes:
            raise no_machine(self._settings)
        match best_offer([self._offer(node, need, ahead=ahead) for node in nodes]):
            case Refusal() as refusal:
                raise _refused(spec, need, refusal)
            case Wait(until_s):
                raise NoRoomYet(until_s)
            case Offer() as taken:
                pass
        leaving = self._write_down(taken.room)
        held, victims = self._claim(spec, need, taken)
        for victim in victims:
            await victim.runner.kill()
        await self._leave_gpu(leaving)
        if held.how == "reused":
            return await self._empty(held, spec, need, taken.node)
        return held

    def _offer(self, node: PoolNode, need: Need, *, ahead: bool) -> Offer | Wait | Refusal:
        mine = self._runners.on(node)
        made = offer(
            node,
            need,
            [h.holding(self._worth(h)) for h in mine],
            [self._on_gpu(h) for h in mine if h.spec is not None],
            now_s=self.now(),
            min_loaded_s=self._settings.min_loaded_s,
        )
        busy = sum(h.spec is not None and h.is_busy for h in mine)
        if isinstance(made, Offer) and busy >= node.slots and not ahead:
            return Wait(None)
        return made

    def _on_gpu(self, held: Held) -> OnGpu:
        return held.on_gpu(self._worth(held))

    def _worth(self, held: Held) -> float:
        return self.evictor.worth(held.spec.key if held.spec is not None else "", held.credit)

    def _write_down(self, room: Room) -> list[tuple[Held, Level]]:
        """Those that leave the GPU, marked as such, and how deep they are to sleep; 0: not at all.

        Who is ended comes first, so that there is memory for those that sleep.
        """
        leaving: list[tuple[Held, Level]] = []
        leaving.extend((self._runners[number], 0) for number in room.end)
        leaving.extend((self._runners[number], level) for number, level in room.sleep)
        self.evictor.evict(held.credit for held, _ in leaving)
        for held, level in leaving:
            held.is_moving, held.level = True, level or held.level
        return leaving

    def _claim(self, spec: EngineSpec, need: Need, taken: Offer) -> tuple[Held, list[Held]]:
        """Write down who takes the engine and who goes."""
        placement = taken.placement
        victims = [self._runners.pop(number) for number in placement.kill]
        held = self._runners[placement.runner] if placement.runner is not None else None
        gone = victims if held is None else [*victims, held]
        self.evictor.evict(h.credit for h in gone if h.spec is not None)
        if held is None:
            return self._runners.start_for(spec, need, taken.node), victims
        is_kept = self._settings.keep_processes or placement.how == "warm"
        if not is_kept or held.kind != (spec.engine, spec.runner):
            victims.append(self._runners.pop(held.number))
            return self._replacement(spec, need, taken.node), victims
        held.spec, held.how, held.is_moving, held.level = spec, placement.how, True, 0
        held.bytes, held.gpu_bytes = max(held.bytes, need.total_bytes), need.gpu_bytes
        return held, victims

    async def _leave_gpu(self, leaving: Sequence[tuple[Held, Level]]) -> None:
        """End engines and put others to sleep; one that does not obey is ended as well."""
        for held, level in leaving:
            if not level:
                await self._runners.drop(held)
                continue
            try:
                held.bytes = await held.runner.sleep(level)
                held.is_moving = False
            except ExpertUnavailable as exc:
                logger.warning("an engine could not be put to sleep: %s", exc)
                await self._runners.drop(held)

    async def _empty(self, held: Held, spec: EngineSpec, need: Need, node: PoolNode) -> Held:
        """The runner without the engine it held; another one where it stays too large."""
        free = node.memory_bytes - sum(h.bytes for h in self._runners.on(node) if h is not held)
        try:
            left = await held.runner.unload()
            if keeps_process(left, need.total_bytes, need.base_bytes, free):
                return held
        except ExpertUnavailable as exc:
            logger.warning("a runner could not be emptied: %s", exc)
        await self._runners.drop(held)
        return self._replacement(spec, need, node)

    def _replacement(self, spec: EngineSpec, need: Need, node: PoolNode) -> Held:
        """A warm spare for an engine whose emptied runner is not kept, or a new one."""
        kind = spec.engine, spec.runner
        warm = [h for h in self._runners.on(node) if h.spec is None and not h.is_moving]
        spare = next((h for h in warm if h.kind == kind), None)
        if spare is None:
            return self._runners.start_for(spec, need, node)
        spare.spec, spare.how, spare.is_moving = spec, "warm", True
        spare.bytes, spare.gpu_bytes = need.total_bytes, need.gpu_bytes
        return spare


def _refused(spec: EngineSpec, need: Need, refusal: Refusal) -> ConfigError:
    setting = "memory_gib" if refusal.need_bytes == need.total_bytes else "gpu_memory_gib"
    return ConfigError(
        f"expert {spec.experts[0]!r} needs {need} and "
        f"{refusal.budget_bytes / GIB:.2f} GiB may be used; raise pool.{setting}, lower "
        "engine_args.kv_cache_memory_bytes or unpin an expert"
    )
