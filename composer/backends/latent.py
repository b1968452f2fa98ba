"""Groups of experts that attend to one another, in torch, in this very process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from composer.backends import BACKENDS
from composer.backends.engine_thread import EngineThread, Event
from composer.errors import ConfigError, ExpertUnavailable
from composer.latent.loading import load_engine
from composer.types import EngineSpec, Request, RequestId


class LatentBackend:
    """A `Backend` over one group: all its experts are loaded, and leave, together."""

    def __init__(self) -> None:
        self.capabilities = BACKENDS["latent"].capabilities
        self._thread: EngineThread | None = None

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`."""
        thread = EngineThread(lambda: load_engine(spec))
        try:
            await thread.start()
        except ConfigError:
            raise
        except Exception as exc:  # noqa: BLE001 - the border: whatever a load raises, said once
            reason = f"the group did not load: {exc!r}"
            raise ExpertUnavailable(spec.experts[0], reason) from None
        self._thread = thread

    async def generate(self, requests: Sequence[Request], *, stream: bool) -> AsyncGenerator[Event]:
        """See `Backend.generate`."""
        assert self._thread is not None, "nothing is loaded"
        async with aclosing(self._thread.generate(requests, stream=stream)) as events:
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
