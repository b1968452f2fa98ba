"""What backends share whose engine is stepped by a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from composer.backends.engine_thread import EngineThread, Event, SteppedEngine
from composer.types import Capabilities, Request, RequestId


class ThreadedBackend:
    """A `Backend` but for `load`, which says what engine there is."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self._thread: EngineThread | None = None

    async def start(self, make: Callable[[], SteppedEngine]) -> None:
        """Make the engine on a thread; raises whatever the making raises."""
        thread = EngineThread(make)
        await thread.start()
        self._thread = thread

    @property
    def thread(self) -> EngineThread:
        """The engine's."""
        assert self._thread is not None, "nothing is loaded"
        return self._thread

    async def generate(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[Event]:
        """See `Backend.generate`."""
        async with aclosing(self.thread.generate(requests, stream=stream)) as events:
            async for event in events:
                yield event

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`."""
        if self._thread is not None:
            self._thread.abort(ids)

    async def unload(self) -> None:
        """See `Backend.unload`."""
        if self._thread is not None:
            await self._thread.stop()
            self._thread = None
