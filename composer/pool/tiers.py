"""Which engines make room on a GPU, and what becomes of them: a pure policy.

An engine is awake on the GPU, asleep with its weights in the machine's own memory (level 1: it
wakes as fast as they are copied), or asleep without them (level 2: its process stays and reads them
from disk again). Whoever is worth least goes to sleep first; the machine's memory is for those that
are worth most. One that cannot sleep is ended, and so is one that sleeps where its weights give
way: vLLM would have to wake it to let go of them.

Source: the tiers of SN40L's runtime (arXiv 2405.07518, section 3) and vLLM's sleep mode. Deviation:
there the least recently used one goes; here worth decides, which an eviction policy gives.

Not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from composer.pool.residency import Refusal, Wait

Level = Literal[0, 1, 2]
"""How deep an engine sleeps; 0: it is awake."""


@dataclass(frozen=True, slots=True)
class OnGpu:
    """One engine with a process on the GPU's machine."""

    runner: int
    gpu_bytes: int
    """Of the GPU, while it is awake."""
    asleep_bytes: int | None
    """Of the machine's own memory, while it sleeps at level 1; None: it cannot sleep."""
    level: Level = 0
    is_busy: bool = False
    is_pinned: bool = False
    loaded_at_s: float = 0.0
    used_at_s: float = 0.0
    worth: float = 0.0
    """The least goes first; of equals, the one used least recently."""


@dataclass(frozen=True, slots=True)
class Room:
    """What makes room."""

    sleep: tuple[tuple[int, Level], ...] = ()
    """Runners and how deep their engines are to sleep."""
    end: tuple[int, ...] = ()
    """Runners to be ended, awake or asleep."""


def make_room(
    need_bytes: int,
    engines: Sequence[OnGpu],
    *,
    gpu_bytes: int,
    host_free_bytes: int,
    now_s: float,
    min_loaded_s: float = 0.0,
) -> Room | Wait | Refusal:
    """Decide who leaves a GPU for an engine that is to be awake on it.

    Args:
        need_bytes: What the engine will take of the GPU.
        engines: All others with a process there.
        gpu_bytes: What all engines that are awake may take together.
        host_free_bytes: What is left of the machine's own memory for weights.
        now_s: The time, on the clock of `loaded_at_s` and `used_at_s`.
        min_loaded_s: How long an engine stays awake at least.
    """
    awake = [e for e in engines if not e.level]
    pinned = sum(e.gpu_bytes for e in awake if e.is_pinned)
    if need_bytes > gpu_bytes - pinned:
        return Refusal(need_bytes, gpu_bytes - pinned)
    free = gpu_bytes - sum(e.gpu_bytes for e in awake)
    idle = sorted((e for e in awake if not e.is_busy and not e.is_pinned), key=_worth)
    old = [e for e in idle if now_s >= e.loaded_at_s + min_loaded_s]
    victims: list[OnGpu] = []
    while need_bytes > free and len(victims) < len(old):
        victims.append(old[len(victims)])
        free += victims[-1].gpu_bytes
    if need_bytes > free:
        young = [e.loaded_at_s + min_loaded_s for e in idle if e not in old]
        return Wait(min(young) if young else None)
    asleep = [e for e in engines if e.level == 1 and not e.is_busy and not e.is_pinned]
    return _put_to_sleep(victims, asleep, host_free_bytes)


def _put_to_sleep(victims: Sequence[OnGpu], asleep: Sequence[OnGpu], free_bytes: int) -> Room:
    """Keep the weights of those worth most; who sleeps already gives way to who is worth more."""
    levels: dict[int, Level] = {}
    end = [victim.runner for victim in victims if victim.asleep_bytes is None]
    kept = sorted(asleep, key=_worth)
    for victim in sorted(victims, key=_worth, reverse=True):
        if victim.asleep_bytes is None:
            continue
        out: list[OnGpu] = []
        room = free_bytes
        while victim.asleep_bytes > room and len(out) < len(kept):
            if _worth(kept[len(out)]) >= _worth(victim):
                break
            out.append(kept[len(out)])
            room += out[-1].asleep_bytes or 0
        if victim.asleep_bytes > room:
            levels[victim.runner] = 2
            continue
        levels[victim.runner] = 1
        end += [engine.runner for engine in out]
        kept, free_bytes = kept[len(out) :], room - victim.asleep_bytes
    return Room(tuple(sorted(levels.items())), tuple(end))


def _worth(engine: OnGpu) -> tuple[float, float, int]:
    return engine.worth, engine.used_at_s, engine.runner
