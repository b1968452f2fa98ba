"""All runners that there are, by where they are; started and ended."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from composer.experts import PoolSettings
from composer.pool.footprint import Need
from composer.pool.held import Held
from composer.pool.inline_runner import InlineRunner
from composer.pool.nodes import HERE, PoolNode
from composer.types import EngineSpec


class Runners:
    """What `Held` there is of every runner."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._held: dict[int, Held] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held.values()))

    def __getitem__(self, number: int) -> Held:
        return self._held[number]

    def on(self, node: PoolNode) -> list[Held]:
        """Those that take part in a machine's budgets."""
        return [held for held in self if held.is_local and held.node == node.name]

    def find(self, copy_key: str) -> Held | None:
        """The runner that holds a copy of an engine, awake or asleep, or is about to."""
        return next((h for h in self if h.spec is not None and h.spec.copy_key == copy_key), None)

    def start_for(self, spec: EngineSpec, need: Need, node: PoolNode) -> Held:
        """A runner that is to hold an engine."""
        if spec.runner == "ray":
            held = self.start(spec.engine, need.total_bytes, node)
        else:
            runner = InlineRunner(spec.engine, on_gpu=node.gpu_bytes is not None)
            held = Held(next(self._numbers), runner, spec.engine, True, need.total_bytes)
            self._held[held.number] = held
        held.spec, held.gpu_bytes = spec, need.gpu_bytes
        return held

    def start(self, engine: str, need_bytes: int, node: PoolNode) -> Held:
        """A process that imports an engine's library."""
        from composer.pool.ray_runner import RayRunner

        where = None if node.name == HERE else node.name
        runner = RayRunner(engine, threads=node.threads, options=self._settings.ray, node=where)
        held = Held(next(self._numbers), runner, engine, False, need_bytes, node=node.name)
        self._held[held.number] = held
        return held

    def pop(self, number: int) -> Held:
        """Take one out that is about to be ended."""
        return self._held.pop(number)

    async def drop(self, held: Held) -> None:
        """End one, whatever it is doing."""
        self._held.pop(held.number, None)
        await held.runner.kill()
