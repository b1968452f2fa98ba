"""A runner in this event loop: for engines that compute elsewhere, or not at all."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

from composer.backends import backend_entry
from composer.errors import ExpertUnavailable
from composer.protocols import Sleeper
from composer.types import Completion, Delta, EngineSpec, Failure, Loaded, Request, RequestId


class InlineRunner:
    """See `Runner`. Its memory is what the backend says it needs, since no process can be asked."""

    pid = None

    def __init__(self, engine: str, *, on_gpu: bool = False) -> None:
        """Make the backend.

        Args:
            engine: Which.
            on_gpu: Whether what the backend needs is a GPU's memory, and not this process's.
        """
        self._entry = backend_entry(engine)
        self._backend = self._entry.make()
        self._on_gpu = on_gpu
        self._spec: EngineSpec | None = None
        self._bytes = 0

    async def load(self, spec: EngineSpec) -> Loaded:
        """See `Runner.load`."""
        started_s = time.perf_counter()
        await self._backend.load(spec)
        self._spec, self._bytes = spec, 0 if self._on_gpu else self._entry.memory_bytes(spec)
        return Loaded(time.perf_counter() - started_s, self._bytes, self._bytes)

    async def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure]:
        """See `Runner.generate`."""
        try:
            async with aclosing(self._backend.generate(requests, stream=stream)) as events:
                async for event in events:
                    yield event
        except Exception as exc:
            reason = f"its backend failed: {exc!r}"
            raise ExpertUnavailable(requests[0].expert, reason) from exc

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Runner.abort`."""
        await self._backend.abort(ids)

    async def unload(self) -> int:
        """See `Runner.unload`."""
        await self._backend.unload()
        self._bytes = 0
        return 0

    async def sleep(self, level: Literal[1, 2]) -> int:
        """See `Runner.sleep`."""
        assert isinstance(self._backend, Sleeper)
        assert self._spec is not None
        await self._backend.sleep(level)
        self._bytes = (self._entry.asleep_bytes(self._spec) or 0) if level == 1 else 0
        return self._bytes

    async def wake(self) -> Loaded:
        """See `Runner.wake`."""
        assert isinstance(self._backend, Sleeper)
        started_s = time.perf_counter()
        await self._backend.wake()
        self._bytes = 0
        return Loaded(time.perf_counter() - started_s, 0, 0)

    async def memory_bytes(self) -> int:
        """See `Runner.memory_bytes`."""
        return self._bytes

    async def kill(self) -> None:
        """See `Runner.kill`."""
        await self._backend.unload()
