"""What runs inside a runner's process: one backend, driven by messages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from composer.backends import backend_entry
from composer.errors import ComposerError, ExpertUnavailable
from composer.pool.channel import Address, Channel, listen
from composer.protocols import Backend, Sleeper
from composer.types import Completion, Delta, EngineSpec, Failure, Loaded, Request, RequestId

Event = Delta | Completion | Failure


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A runner's process, just started."""

    pid: int
    memory_bytes: int
    node: str


@dataclass(frozen=True, slots=True)
class Submit:
    """Said to a runner: start these requests."""

    requests: tuple[Request, ...]
    stream: bool


@dataclass(frozen=True, slots=True)
class Abort:
    """Said to a runner: stop these requests."""

    ids: tuple[RequestId, ...]


class RunnerHost:
    """Holds a backend. All methods run on one event loop."""

    def __init__(self, engine: str) -> None:
        self._entry = backend_entry(engine)
        self._backend: Backend = self._entry.make()
        self._channel: Channel | None = None
        self._events: list[Event] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def status(self) -> HostStatus:
        """Who it is; answered once the engine's library is imported."""
        return HostStatus(os.getpid(), tree_bytes(), os.uname().nodename)

    async def listen(self, host: str) -> Address:
        """Open the line that `Submit` and `Abort` come in by, and lists of events go out."""
        return await listen(host, self._serve)

    async def load(self, spec: EngineSpec) -> Loaded:
        """See `Runner.load`."""
        started_s = time.perf_counter()
        _reset_peak()
        try:
            await self._backend.load(spec)
        except ComposerError:
            raise
        except Exception as exc:  # noqa: BLE001 - the border of the process
            raise ExpertUnavailable(spec.experts[0], f"its load failed: {exc!r}") from None
        now = tree_bytes()
        return Loaded(time.perf_counter() - started_s, now, max(now, _peak_bytes()))

    async def unload(self) -> int:
        """See `Runner.unload`."""
        await self._backend.unload()
        return tree_bytes()

    async def sleep(self, level: Literal[1, 2]) -> int:
        """See `Runner.sleep`."""
        assert isinstance(self._backend, Sleeper)
        await self._backend.sleep(level)
        return tree_bytes()

    async def wake(self) -> Loaded:
        """See `Runner.wake`."""
        assert isinstance(self._backend, Sleeper)
        started_s = time.perf_counter()
        await self._backend.wake()
        now = tree_bytes()
        return Loaded(time.perf_counter() - started_s, now, now)

    async def memory_bytes(self) -> int:
        """See `Runner.memory_bytes`."""
        return tree_bytes()

    async def _serve(self, channel: Channel) -> None:
        self._channel = channel
        while True:
            match await channel.receive():
                case Submit(requests, stream):
                    task = asyncio.create_task(self._pump(requests, stream))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case Abort(ids):
                    await self._backend.abort(ids)
                case other:
                    raise TypeError(f"not a message for a runner: {other!r}")

    async def _pump(self, requests: Sequence[Request], stream: bool) -> None:
        open_ids = {request.id: request.expert for request in requests}
        try:
            async with aclosing(self._backend.generate(requests, stream=stream)) as events:
                async for event in events:
                    if not isinstance(event, Delta):
                        open_ids.pop(event.request_id, None)
                    self._put([event])
        except Exception as exc:  # noqa: BLE001 - the border: a backend's bug is each one's failure
            reason = f"its backend failed: {exc!r}"
            self._put(
                [
                    Failure(i, expert, "unavailable", reason, retryable=True)
                    for i, expert in open_ids.items()
                ]
            )

    def _put(self, events: Sequence[Event]) -> None:
        """Send events; those of one turn of the loop, a step's tokens say, go together."""
        if not self._events:
            asyncio.get_running_loop().call_soon(self._flush)
        self._events.extend(events)

    def _flush(self) -> None:
        events, self._events = self._events, []
        if self._channel is not None:
            self._channel.send(events)


def tree_bytes() -> int:
    """Resident bytes of this process and all below it."""
    me = psutil.Process()
    total = me.memory_info().rss
    for child in me.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def end_tree(pid: int) -> None:
    """Kill a process of ours and all below it; one that is gone already is no error."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _reset_peak() -> None:
    """Let the kernel count this process's peak anew, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_bytes() -> int:
    """The peak of this process since `_reset_peak`; 0 where the kernel does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    line = next((row for row in status.splitlines() if row.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024
