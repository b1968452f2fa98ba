"""The machine that a trace is run on: memory, slots, and what each expert takes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from composer.backends import GIB
from composer.errors import ConfigError
from composer.suggest import unknown_name
from eval.simulate.trace import Trace

if TYPE_CHECKING:
    from eval.simulate.trace import Float64Array, Int64Array

FIGURES = ("memory_gib", "load_s")
Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Hardware:
    """A machine as m experts find it."""

    capacity: int
    """Experts that fit in memory, or its bytes."""
    size: Int64Array
    """What each expert takes of it, [m] int64: 1, or its bytes."""
    bytes: Int64Array | None
    """What each expert's load reads, [m] int64; None: unknown."""
    load_s: Float64Array
    """Seconds of each expert's load, [m] float64."""
    slots: int
    """Experts that load or generate at one time."""
    switch_s: float
    """Seconds to go on with another expert that is loaded already."""
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    """In one slot."""

    def work_s(self, trace: Trace) -> Float64Array:
        """Seconds of each request, [n]: its tokens by their rates, whatever runs beside it."""
        return (
            trace.prompt_tokens / self.prompt_tokens_per_s
            + trace.completion_tokens / self.completion_tokens_per_s
        )


def make_hardware(
    experts: tuple[str, ...],
    *,
    memory: str = "1",
    figures: Figures | None = None,
    load_s: float = 10.0,
    slots: int = 1,
    switch_s: float = 0.0,
    prompt_tokens_per_s: float = 5000.0,
    completion_tokens_per_s: float = 500.0,
) -> Hardware:
    """A machine with memory for so many experts ("4") or bytes ("24GiB").

    Args:
        experts: Those of the trace.
        memory: In experts, whatever their sizes, or in GiB.
        figures: `memory_gib` and `load_s` of experts, by name.
        load_s: Seconds of a load where the figures do not say.
        slots: Experts that load or generate at one time.
        switch_s: Seconds to go on with another expert that is loaded already.
        prompt_tokens_per_s: In one slot.
        completion_tokens_per_s: In one slot.

    Raises:
        ConfigError: The memory is not a size, an expert's is unknown and needed, one is larger than
            all of it, or a rate, a number of slots or a time cannot be.
    """
    figures = figures or {}
    if min(prompt_tokens_per_s, completion_tokens_per_s, slots) <= 0 or min(load_s, switch_s) < 0:
        raise ConfigError("a rate or the slots are 0, or a time is below it; give more")
    sizes_gib = [figures.get(name, {}).get("memory_gib") for name in experts]
    known = [size for size in sizes_gib if size is not None]
    bytes_ = np.array([size * GIB for size in known], np.int64)
    capacity, is_bytes = _parse_memory(memory)
    if is_bytes and len(known) < len(experts):
        nameless = experts[sizes_gib.index(None)]
        raise ConfigError(
            f"memory is {memory!r} and the size of expert {nameless!r} is unknown; give its "
            "memory_gib in --figures, or --memory in experts"
        )
    size = bytes_ if is_bytes else np.ones(len(experts), np.int64)
    if int(size.max()) > capacity:
        largest = int(size.argmax())
        need = f"{known[largest]:g} GiB" if is_bytes else "one"
        raise ConfigError(
            f"memory is {memory!r} and expert {experts[largest]!r} takes {need}; raise --memory"
        )
    return Hardware(
        capacity,
        size,
        bytes_ if len(known) == len(experts) else None,
        np.array([figures.get(name, {}).get("load_s", load_s) for name in experts], np.float64),
        slots,
        switch_s,
        prompt_tokens_per_s,
        completion_tokens_per_s,
    )


def read_figures(path: Path) -> Figures:
    """Read `{expert: {"memory_gib": ..., "load_s": ...}}`; either figure may be left out.

    Raises:
        ConfigError: The file cannot be read, or an entry is wrong.
    """
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read {str(path)!r}: {exc}; name a JSON file") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not an object; write {{expert: {{'memory_gib': ...}}}}")
    for expert, entry in cast("dict[str, Any]", found).items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: expert {expert!r} is {entry!r}; give it figures by name")
        for key, value in cast("dict[str, Any]", entry).items():
            if key not in FIGURES:
                raise ConfigError(f"{path}: expert {expert!r}: {unknown_name('key', key, FIGURES)}")
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise ConfigError(
                    f"{path}: expert {expert!r}: {key!r} is {value!r}; give it a number above 0"
                )
    return cast("Figures", found)


def _parse_memory(memory: str) -> tuple[int, bool]:
    """Experts or bytes, and whether it is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GiB)?", memory)
    if found is None or not (found[2] or found[1].isdigit()):
        raise ConfigError(f"memory is {memory!r}; give it in experts ('4') or bytes ('24GiB')")
    return (int(float(found[1]) * GIB), True) if found[2] else (int(found[1]), False)
