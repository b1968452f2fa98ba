"""Groups of experts that attend to one another, in torch, in this very process."""

from __future__ import annotations

from composer.backends import BACKENDS
from composer.backends.threaded import ThreadedBackend
from composer.errors import ConfigError, ExpertUnavailable
from composer.latent.loading import load_engine
from composer.types import EngineSpec


class LatentBackend(ThreadedBackend):
    """A `Backend` over one group: all its experts are loaded, and leave, together."""

    def __init__(self) -> None:
        super().__init__(BACKENDS["latent"].capabilities)

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`."""
        try:
            await self.start(lambda: load_engine(spec))
        except ConfigError:
            raise
        except Exception as exc:  # noqa: BLE001 - the border: whatever a load raises, said once
            reason = f"the group did not load: {exc!r}"
            raise ExpertUnavailable(spec.experts[0], reason) from None
