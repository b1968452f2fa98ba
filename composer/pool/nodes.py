"""The machines that experts run on, and what experts may take of each."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from composer.backends import GIB
from composer.errors import ConfigError
from composer.experts import PoolSettings

HERE = "this machine"
MEMORY_SHARE = 0.75
"""Of a machine's memory, where experts.yaml says nothing."""
REACH_S = 2.0
"""How long a machine of a cluster may take to accept a connection."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of a Ray cluster, as Ray tells of it."""

    id: str
    host: str
    port: int
    """Of the process with which Ray manages it."""
    amount: float
    """Of the resource that it was looked for by."""
    cores: float
    memory_bytes: int
    """That Ray may give to its workers."""


@dataclass(frozen=True, slots=True)
class PoolNode:
    """A machine, and what experts may take of it."""

    name: str
    """`HERE`, or Ray's id of it."""
    memory_bytes: int
    """For all runner processes on it."""
    slots: int
    """Engines that generate at one time."""
    threads: int
    """OpenMP threads of one runner: its share of the cores."""
    gpu_bytes: int | None = None
    """For all engines that are awake on it, of its GPU; None: they compute on its processor."""

    @property
    def engine_bytes(self) -> int:
        """What engines that are up together may take, where they compute."""
        return self.memory_bytes if self.gpu_bytes is None else self.gpu_bytes


class Nodes:
    """The machines of a pool: this one, or those of a Ray cluster that have a resource."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._cluster: Any = None
        self.here = this_machine(settings)
        self.found: Mapping[str, PoolNode] = (
            {HERE: self.here} if settings.node_resource is None else {}
        )
        """Those that experts with a process of their own run on, as far as is known."""

    @property
    def slots(self) -> Mapping[str, int]:
        """How many engines generate at one time, by machine."""
        return {node.name: node.slots for node in (self.here, *self.found.values())}

    def of(self, runner: str) -> list[PoolNode]:
        """Where a kind of runner may be started."""
        return [self.here] if runner == "inline" else list(self.found.values())

    def __contains__(self, name: str) -> bool:
        return name == HERE or name in self.found

    def __getitem__(self, name: str) -> PoolNode:
        return self.found.get(name, self.here)

    async def start(self) -> None:
        """Start Ray, which runners in processes of their own need, and look for machines.

        Raises:
            ConfigError: It does not come up.
        """
        if self._cluster is None:
            module = await asyncio.to_thread(importlib.import_module, "composer.pool.ray_runner")
            self._cluster = self._cluster or module.RayCluster()
        await self._cluster.start()
        await self.look()

    async def look(self) -> None:
        """Look which machines of the cluster are there now."""
        resource = self._settings.node_resource
        if resource is not None and self._cluster is not None:
            found: list[ClusterNode] = await self._cluster.nodes(resource)
            self.found = pool_nodes(await reachable(found), self._settings)

    async def stop(self) -> None:
        """Stop Ray, if it was started here."""
        if self._cluster is not None:
            await self._cluster.stop()


def this_machine(settings: PoolSettings) -> PoolNode:
    """The machine that this process runs on."""
    share = int(MEMORY_SHARE * psutil.virtual_memory().total)
    return _node(HERE, settings, settings.busy_engines, os.cpu_count() or 1, share)


def pool_nodes(found: Sequence[ClusterNode], settings: PoolSettings) -> dict[str, PoolNode]:
    """Machines of a cluster by name; as many engines generate on each as it has of the resource."""
    return {
        node.id: _node(node.id, settings, int(node.amount), int(node.cores), node.memory_bytes)
        for node in found
        if node.amount >= 1
    }


def no_machine(settings: PoolSettings) -> ConfigError:
    """Why nothing can run: the cluster has no machine with the resource."""
    resource = settings.node_resource
    return ConfigError(
        f"no machine of the Ray cluster has {resource!r}, which pool.node_resource names; start "
        f"one with `ray start --resources='{{\"{resource}\": 1}}'`"
    )


async def reachable(found: Sequence[ClusterNode]) -> list[ClusterNode]:
    """Those that answer. Ray goes on listing one that is gone until it has missed enough pulses."""
    answers = await asyncio.gather(*map(_answers, found))
    return [node for node, answer in zip(found, answers, strict=True) if answer]


async def _answers(node: ClusterNode) -> bool:
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(node.host, node.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _node(name: str, settings: PoolSettings, slots: int, cores: int, memory: int) -> PoolNode:
    gib, gpu_gib = settings.memory_gib, settings.gpu_memory_gib
    return PoolNode(
        name,
        memory if gib is None else int(gib * GIB),
        slots,
        max(1, (settings.cores or cores) // slots),
        None if gpu_gib is None else int(gpu_gib * GIB),
    )
