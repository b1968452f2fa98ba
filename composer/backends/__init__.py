"""The backends, by the name that experts.yaml calls an engine by.

Each entry says what the pool must know before it starts anything; the modules behind them are
imported only when an engine is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from composer.errors import ConfigError
from composer.protocols import Backend
from composer.types import Capabilities, EngineSpec

GIB = 1 << 30
LATENT_WORK_BYTES = GIB // 2
"""Caches, states and scores of a group's batches, by estimate."""


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """One kind of engine."""

    make: Callable[[], Backend]
    memory_bytes: Callable[[EngineSpec], int]
    """What the engine adds to its process, or takes of a GPU, estimated from its resolved spec."""
    is_local: bool
    """Whether it computes on this machine, and so takes part in the budgets."""
    capabilities: Capabilities
    asleep_bytes: Callable[[EngineSpec], int | None] = lambda spec: None
    """What an engine on a GPU keeps in its process while it sleeps; None: it cannot sleep."""


def _vllm() -> Backend:
    from composer.backends.vllm import VllmBackend

    return VllmBackend()


def _vllm_memory_bytes(spec: EngineSpec) -> int:
    from composer.backends.vllm_memory import engine_bytes

    return engine_bytes(spec)


def _vllm_asleep_bytes(spec: EngineSpec) -> int | None:
    from composer.backends.vllm_memory import weights_bytes

    return weights_bytes(spec) if spec.engine_args.get("enable_sleep_mode") else None


def _latent() -> Backend:
    from composer.backends.latent import LatentBackend

    return LatentBackend()


def _latent_memory_bytes(spec: EngineSpec) -> int:
    from composer.backends.weights import model_bytes

    folders = [f for m in spec.members for f in (m.model_path, m.adapter) if f is not None]
    # Weights are kept in two bytes a number, and so they are on disk.
    size = 2 if spec.engine_args.get("dtype") == "float32" else 1
    return LATENT_WORK_BYTES + size * sum(model_bytes(Path(folder)) for folder in folders)


def _openai() -> Backend:
    from composer.backends.openai_http import OpenAIBackend

    return OpenAIBackend()


def _scripted() -> Backend:
    from composer.backends.scripted import ScriptedBackend

    return ScriptedBackend()


def _scripted_memory_bytes(spec: EngineSpec) -> int:
    return int(float(spec.engine_args.get("memory_gib", 0.0)) * GIB)


def _scripted_asleep_bytes(spec: EngineSpec) -> int | None:
    asleep_gib = spec.engine_args.get("asleep_gib")
    return None if asleep_gib is None else int(float(asleep_gib) * GIB)


def _recorded() -> Backend:
    from composer.backends.recorded import RecordedBackend

    return RecordedBackend()


BACKENDS: Mapping[str, BackendEntry] = {
    "vllm": BackendEntry(
        _vllm,
        _vllm_memory_bytes,
        is_local=True,
        capabilities=Capabilities(
            logprobs=True, schema=True, continuation=True, peers=True, adapters=True, sleep=True
        ),
        asleep_bytes=_vllm_asleep_bytes,
    ),
    "latent": BackendEntry(
        _latent,
        _latent_memory_bytes,
        is_local=True,
        capabilities=Capabilities(logprobs=True, continuation=True, peers=True),
    ),
    "openai": BackendEntry(
        _openai,
        lambda spec: 0,
        is_local=False,
        capabilities=Capabilities(logprobs=True, schema=True),
    ),
    "scripted": BackendEntry(
        _scripted,
        _scripted_memory_bytes,
        is_local=True,
        capabilities=Capabilities(logprobs=True, schema=True, continuation=True, sleep=True),
        asleep_bytes=_scripted_asleep_bytes,
    ),
    "recorded": BackendEntry(
        _recorded,
        lambda spec: 0,
        is_local=False,
        capabilities=Capabilities(),
    ),
}


def backend_entry(engine: str) -> BackendEntry:
    """The entry of an engine's backend.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return BACKENDS[engine]
    except KeyError:
        raise ConfigError(f"no engine {engine!r}; choose from {sorted(BACKENDS)}") from None
