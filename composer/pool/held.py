"""One runner, and what the pool knows of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from composer.backends import backend_entry
from composer.pool.nodes import HERE
from composer.pool.residency import Holding, How
from composer.pool.tiers import Level, OnGpu
from composer.protocols import Runner
from composer.types import EngineSpec


@dataclass(eq=False, slots=True)
class Held:
    """One runner and what the fleet knows of it."""

    number: int
    runner: Runner
    engine: str
    """The kind of engine whose library it has imported."""
    is_inline: bool
    bytes: int
    """Of its machine's memory."""
    spec: EngineSpec | None = None
    node: str = HERE
    """The machine that it is on."""
    gpu_bytes: int = 0
    """What its engine takes of the GPU while it is awake."""
    level: Level = 0
    """How deep its engine sleeps."""
    is_moving: bool = True
    """Starting, loading or emptying."""
    is_pinned: bool = False
    jobs: int = 0
    loaded_at_s: float = 0.0
    used_at_s: float = 0.0
    load_s: float = 0.0
    """What its last load took."""
    credit: float = 0.0
    """What its last use made it worth to the eviction policy."""
    how: How = "fresh"
    consumers: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def kind(self) -> tuple[str, str]:
        """The engine whose library it has imported, and what sort of runner it is."""
        return self.engine, "inline" if self.is_inline else "ray"

    @property
    def is_local(self) -> bool:
        """Whether it takes part in the budgets."""
        return backend_entry(self.engine).is_local

    @property
    def is_ready(self) -> bool:
        """Whether it can be given requests."""
        return self.spec is not None and not self.is_moving and not self.level

    @property
    def is_busy(self) -> bool:
        """Whether its engine is being loaded or generates, or it is being emptied."""
        return self.is_moving or self.jobs > 0

    def holding(self, worth: float) -> Holding:
        """Itself, as the policy of processes sees it."""
        return Holding(
            self.number,
            self.spec.key if self.spec is not None else None,
            self.bytes,
            is_busy=self.is_busy,
            is_pinned=self.is_pinned,
            loaded_at_s=self.loaded_at_s,
            used_at_s=self.used_at_s,
            worth=worth,
        )

    def on_gpu(self, worth: float) -> OnGpu:
        """Itself, as the policy of the GPU's memory sees it."""
        spec = self.spec
        return OnGpu(
            self.number,
            self.gpu_bytes,
            None if spec is None else backend_entry(spec.engine).asleep_bytes(spec),
            # What it holds of the GPU is not free before it has gone to sleep.
            level=0 if self.is_moving else self.level,
            is_busy=self.is_busy,
            is_pinned=self.is_pinned,
            loaded_at_s=self.loaded_at_s,
            used_at_s=self.used_at_s,
            worth=worth,
        )
