"""What engines took when they were last loaded, kept across runs: bytes and seconds.

Before an engine's first load its need is an estimate; afterwards the peak that its runner measured
replaces it. The file is a cache: one that is broken or gone costs an estimate, nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from composer.backends import GIB, backend_entry
from composer.types import EngineSpec

logger = logging.getLogger(__name__)

BASE_BYTES_DEFAULT = GIB
"""A process that has imported its engine's library and loaded nothing, before one was measured."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One engine's measured figures."""

    peak_bytes: int
    """Of the whole process: at its load into a runner that held nothing before, or since."""
    load_s: float
    wake_s: float | None = None
    """None: it never slept."""
    tokens_per_s: float | None = None
    """That it wrote in a batch, all requests together; None: never in a batch."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a runner's process will hold with an engine in it."""

    total_bytes: int
    base_bytes: int
    """Its share before the engine is loaded."""
    is_measured: bool
    gpu_bytes: int = 0
    """Of the GPU, beside that; 0: the engine computes on the processor."""

    def __str__(self) -> str:
        """The figure with where it comes from."""
        kind = "measured" if self.is_measured else "estimated"
        on_gpu = f" and {self.gpu_bytes / GIB:.2f} GiB of the GPU" if self.gpu_bytes else ""
        return f"{self.total_bytes / GIB:.2f} GiB ({kind}){on_gpu}"


class Footprints:
    """Measured figures by engine key, in one JSON file."""

    def __init__(self, path: Path, *, on_gpu: bool = False) -> None:
        """Read the file, if it is there.

        Args:
            path: The file.
            on_gpu: Whether engines take their memory of a GPU; figures are kept apart.
        """
        self._path = path
        self._on_gpu = on_gpu
        self._engines: dict[str, Footprint] = {}
        self._base: dict[str, int] = {}
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            self._engines = {k: Footprint(**v) for k, v in saved["engines"].items()}
            self._base = {str(k): int(v) for k, v in saved["base"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            logger.warning("%s is not readable (%s): needs are estimated anew", path, exc)

    def of(self, key: str) -> Footprint | None:
        """What was measured of an engine; None: it was never loaded."""
        return self._engines.get(self._key(key))

    def need(self, spec: EngineSpec) -> Need:
        """What a runner will hold with this engine: measured, or else estimated."""
        base = 0 if spec.runner == "inline" else self.base_bytes(spec.engine)
        entry = backend_entry(spec.engine)
        measured = None if spec.runner == "inline" else self.of(spec.key)
        if self._on_gpu:
            total = base if measured is None else measured.peak_bytes
            return Need(total, base, measured is not None, entry.memory_bytes(spec))
        if measured is None:
            return Need(base + entry.memory_bytes(spec), base, is_measured=False)
        return Need(measured.peak_bytes, base, is_measured=True)

    def base_bytes(self, engine: str) -> int:
        """What a runner that holds nothing yet takes."""
        return self._base.get(self._key(engine), BASE_BYTES_DEFAULT)

    def record_base(self, engine: str, base_bytes: int) -> None:
        """Keep what a runner took before it loaded anything."""
        self._base[self._key(engine)] = base_bytes
        self._save()

    def record(self, key: str, footprint: Footprint) -> None:
        """Keep what a load took, beside what else is known of the engine."""
        known = self.of(key)
        if known is not None:
            footprint = replace(
                footprint,
                wake_s=footprint.wake_s or known.wake_s,
                tokens_per_s=footprint.tokens_per_s or known.tokens_per_s,
            )
        self._engines[self._key(key)] = footprint
        self._save()

    def grow(self, key: str, total_bytes: int) -> None:
        """Keep that an engine has come to hold more than its load did, if it has."""
        known = self.of(key)
        if known is not None and total_bytes > known.peak_bytes:
            self.record(key, replace(known, peak_bytes=total_bytes))

    def record_wake(self, key: str, wake_s: float) -> None:
        """Keep how long an engine took to wake."""
        known = self.of(key)
        if known is not None:
            self.record(key, replace(known, wake_s=wake_s))

    def record_rate(self, key: str, tokens_per_s: float) -> None:
        """Keep how fast an engine wrote in a batch."""
        known = self.of(key)
        if known is not None:
            self.record(key, replace(known, tokens_per_s=tokens_per_s))

    def _key(self, name: str) -> str:
        return f"{name} on a GPU" if self._on_gpu else name

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        saved = {"engines": {k: asdict(v) for k, v in self._engines.items()}, "base": self._base}
        with NamedTemporaryFile(
            "w", dir=self._path.parent, encoding="utf-8", suffix=".tmp", delete=False
        ) as file:
            json.dump(saved, file, indent=1, sort_keys=True)
        os.replace(file.name, self._path)
