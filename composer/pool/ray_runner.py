"""Runners as Ray actors, a process each. The only module that imports ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

import psutil
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as _Affinity

from composer.errors import ComposerError, ConfigError, ExpertUnavailable
from composer.pool.channel import Address, Channel, connect
from composer.pool.environment import runner_environment
from composer.pool.nodes import ClusterNode
from composer.pool.runner_host import Abort, Event, HostStatus, RunnerHost, Submit, end_tree
from composer.types import Delta, EngineSpec, Loaded, Request, RequestId

logger = logging.getLogger(__name__)

KILL_GRACE_S = 1.0
"""How long Ray may take to end a process, before the kernel is asked to."""
KILL_POLL_S = 0.02


class RayCluster:
    """A Ray that is started when it is first needed: RAY_ADDRESS's, or one of our own."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[bool] | None = None

    async def start(self) -> None:
        """Start or join Ray; at once when it is up.

        Raises:
            ConfigError: It does not come up.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(_start_unless_up())
        # Whoever waits may go; Ray cannot be stopped cleanly before it is up.
        await asyncio.shield(self._starting)

    async def nodes(self, resource: str) -> list[ClusterNode]:
        """The machines that have a resource, as far as Ray knows."""
        return await asyncio.to_thread(_alive_nodes, resource)

    async def stop(self) -> None:
        """Stop or leave the Ray that `start` brought up, or is about to."""
        is_ours = False
        if self._starting is not None:
            with contextlib.suppress(ConfigError):
                is_ours = await self._starting
        if is_ours:
            await asyncio.to_thread(stop_ray)
        self._starting = None


async def _start_unless_up() -> bool:
    """Start Ray; whether it was not up already.

    The thread that does it is one of the event loop's own, which live as long as the loop. They
    must: Ray's processes are killed when the thread that made them ends.
    """
    if ray.is_initialized():
        return False
    try:
        await asyncio.to_thread(start_ray)
    except (RayError, ConnectionError, RuntimeError, ValueError) as exc:
        address = os.environ.get("RAY_ADDRESS")
        where = f"at RAY_ADDRESS {address!r}" if address else "on this machine"
        raise ConfigError(f"ray does not start {where}: {exc}") from None
    _take_back_sigterm()
    return True


def start_ray() -> None:
    """Start a Ray of our own, or join the one that RAY_ADDRESS names."""
    # Ray speaks of tokens and signal handlers while it starts; nobody can act on either.
    ray_logger = logging.getLogger("ray")
    level = ray_logger.level
    ray_logger.setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(  # pyright: ignore[reportUnknownMemberType]
            include_dashboard=False, log_to_driver=False, configure_logging=False
        )
    finally:
        ray_logger.setLevel(level)


def _alive_nodes(resource: str) -> list[ClusterNode]:
    api: Any = ray
    rows: list[dict[str, Any]] = api.nodes()
    return [
        ClusterNode(
            row["NodeID"],
            row["NodeManagerAddress"],
            row["NodeManagerPort"],
            row["Resources"][resource],
            row["Resources"].get("CPU", 1),
            int(row["Resources"].get("memory", 0)),
        )
        for row in rows
        if row["Alive"] and resource in row["Resources"]
    ]


def _take_back_sigterm() -> None:
    """Put the program's own handler in place of Ray's, which reports a crash for each SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def stop_ray() -> None:
    """End what `start_ray` started, or leave what it joined."""
    ray.shutdown()  # pyright: ignore[reportUnknownMemberType]


class RayRunner:
    """See `Runner`; the process is an actor that holds a `RunnerHost`."""

    def __init__(
        self, engine: str, *, threads: int, options: Mapping[str, Any], node: str | None = None
    ) -> None:
        """Start the process; it imports the engine's library at once.

        Args:
            engine: Which backend it will hold.
            threads: OpenMP threads of its engine.
            options: Ray's actor options (num_gpus, resources, ...).
            node: Ray's id of the machine that it is to be on; None: wherever Ray likes.
        """
        self._queues: dict[RequestId, asyncio.Queue[Event | ExpertUnavailable]] = {}
        self._channel: Channel | None = None
        self._listener: asyncio.Task[None] | None = None
        self._status: HostStatus | None = None
        self._is_dead = False
        self._experts: tuple[str, ...] = ()
        there = {} if node is None else {"scheduling_strategy": _Affinity(node, soft=False)}
        actor = ray.remote(_Host).options(
            num_cpus=options.get("num_cpus", 0),
            max_concurrency=1000,
            max_restarts=0,
            runtime_env={"env_vars": runner_environment(engine, threads)},
            **there,
            **{k: v for k, v in options.items() if k != "num_cpus"},
        )
        self._actor: Any = actor.remote(engine)

    @property
    def pid(self) -> int | None:
        """See `Runner.pid`."""
        return self._status.pid if self._status is not None else None

    async def started(self) -> HostStatus:
        """Wait until its engine's library is imported.

        Raises:
            ExpertUnavailable: The process died before that.
        """
        if self._status is not None:
            return self._status
        status: HostStatus = await self._call("status")
        is_here = status.node == os.uname().nodename
        host = "127.0.0.1" if is_here else await self._call("node_ip")
        address: Address = await self._call("listen", host)
        try:
            self._channel = await connect(address)
        except OSError as exc:
            raise ExpertUnavailable(self._who, f"its runner does not answer: {exc}") from exc
        self._listener = asyncio.create_task(self._listen(self._channel))
        self._status = status
        return status

    async def load(self, spec: EngineSpec) -> Loaded:
        """See `Runner.load`."""
        self._experts = spec.experts
        await self.started()
        return await self._call("load", spec)

    async def generate(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[Event]:
        """See `Runner.generate`."""
        queue: asyncio.Queue[Event | ExpertUnavailable] = asyncio.Queue()
        unfinished = {request.id for request in requests}
        self._queues.update(dict.fromkeys(unfinished, queue))
        try:
            self._line().send(Submit(tuple(requests), stream))
            while unfinished:
                event = await queue.get()
                if isinstance(event, ExpertUnavailable):
                    raise event
                if not isinstance(event, Delta):
                    unfinished.discard(event.request_id)
                yield event
        finally:
            for request in requests:
                self._queues.pop(request.id, None)

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Runner.abort`."""
        with contextlib.suppress(ExpertUnavailable):
            self._line().send(Abort(tuple(ids)))

    async def unload(self) -> int:
        """See `Runner.unload`."""
        return await self._call("unload")

    async def sleep(self, level: Literal[1, 2]) -> int:
        """See `Runner.sleep`."""
        return await self._call("sleep", level)

    async def wake(self) -> Loaded:
        """See `Runner.wake`."""
        return await self._call("wake")

    async def memory_bytes(self) -> int:
        """See `Runner.memory_bytes`."""
        return await self._call("memory_bytes")

    async def kill(self) -> None:
        """See `Runner.kill`."""
        self._is_dead = True
        if self._listener is not None:
            self._listener.cancel()
        if self._channel is not None:
            self._channel.close()
        with contextlib.suppress(RayError, ValueError):
            ray.kill(self._actor, no_restart=True)  # pyright: ignore[reportUnknownMemberType]
        status = self._status
        if status is None or status.node != os.uname().nodename:
            return
        for _ in range(int(KILL_GRACE_S / KILL_POLL_S)):
            if not psutil.pid_exists(status.pid):
                return
            await asyncio.sleep(KILL_POLL_S)
        end_tree(status.pid)

    async def _call(self, method: str, *args: Any) -> Any:
        expert = self._who
        if self._is_dead:
            raise ExpertUnavailable(expert, "its runner was ended")
        try:
            return await getattr(self._actor, method).remote(*args)
        except RayTaskError as exc:
            cause: BaseException = exc.as_instanceof_cause()
            if isinstance(exc.cause, ComposerError):
                raise exc.cause from None
            raise ExpertUnavailable(expert, f"its runner failed: {cause}") from exc
        except RayActorError as exc:
            raise ExpertUnavailable(expert, "its runner's process died") from exc
        except RayError as exc:
            raise ExpertUnavailable(expert, f"its runner cannot be reached: {exc}") from exc

    @property
    def _who(self) -> str:
        return self._experts[0] if self._experts else "?"

    def _line(self) -> Channel:
        if self._channel is None or self._is_dead:
            raise ExpertUnavailable(self._who, "its runner was ended")
        return self._channel

    async def _listen(self, channel: Channel) -> None:
        """Hand events to whom they are for, until the process is gone."""
        while True:
            try:
                events: list[Event] = await channel.receive()
            except EOFError:
                self._is_dead = True
                gone = ExpertUnavailable(self._who, "its runner's process died")
                for queue in set(self._queues.values()):
                    queue.put_nowait(gone)
                return
            for event in events:
                queue = self._queues.get(event.request_id)
                if queue is not None:
                    queue.put_nowait(event)


class _Host(RunnerHost):
    """A `RunnerHost` that knows where Ray has put it."""

    async def node_ip(self) -> str:
        """Its machine's address for the others of the cluster."""
        util: Any = ray.util
        return str(util.get_node_ip_address())
