"""Which runner takes the next engine, and who has to make room: a pure policy.

Whoever is worth least first (composer.pool.eviction says what that is), never a busy or pinned one,
none before its minimum time loaded. Room is made by emptying the first victim's runner and using it
again; further victims, and warm runners nobody needs, are killed. An engine that is known not to be
wanted again hands its runner over even while there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

NEVER = -inf
"""The worth of an engine that is known not to be wanted again."""

How = Literal["reused", "warm", "fresh"]
"""A runner that was emptied for it; one that had imported its engine and waited; a new process."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One runner process, as the policy sees it."""

    runner: int
    engine: str | None
    """The key of the engine that it holds; None: it is warm and holds nothing."""
    bytes: int
    """The whole process tree."""
    is_busy: bool = False
    is_pinned: bool = False
    loaded_at_s: float = 0.0
    used_at_s: float = 0.0
    worth: float = 0.0
    """The least goes first; of equals, the one used least recently."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the engine goes."""

    how: How
    runner: int | None
    """The runner that takes it, to be emptied first if it holds an engine; None: a new one."""
    kill: tuple[int, ...] = ()
    """Runners to be ended first."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can make room now."""

    until_s: float | None
    """When a minimum time loaded ends, on the policy's clock; None: when a runner falls idle."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The engine does not fit, whoever makes room."""

    need_bytes: int
    budget_bytes: int


def place(
    need_bytes: int,
    holdings: Sequence[Holding],
    *,
    budget_bytes: int,
    now_s: float,
    min_loaded_s: float = 0.0,
) -> Placement | Wait | Refusal:
    """Decide where an engine goes.

    Args:
        need_bytes: What the runner's whole process will hold once it has loaded the engine.
        holdings: All runner processes.
        budget_bytes: What all runner processes together may hold.
        now_s: The time, on the clock of `loaded_at_s` and `used_at_s`.
        min_loaded_s: How long an engine stays loaded at least.
    """
    pinned = sum(h.bytes for h in holdings if h.is_pinned)
    if need_bytes > budget_bytes - pinned:
        return Refusal(need_bytes, budget_bytes - pinned)
    free = budget_bytes - sum(h.bytes for h in holdings)
    idle = [h for h in holdings if not h.is_busy]
    warm = sorted((h for h in idle if h.engine is None), key=lambda h: (h.bytes, h.runner))
    if warm and need_bytes <= free + warm[0].bytes:
        return Placement("warm", warm[0].runner)
    loaded = sorted(
        (h for h in idle if h.engine is not None and not h.is_pinned),
        key=lambda h: (h.worth, h.used_at_s, h.runner),
    )
    old = [h for h in loaded if now_s >= h.loaded_at_s + min_loaded_s]
    if not warm and need_bytes <= free:
        # To empty a runner takes less than a new process, which has to import its engine.
        is_done_with = bool(old) and old[0].worth == NEVER
        return _take_over(old[:1]) if is_done_with else Placement("fresh", None)

    victims: list[Holding] = []
    for victim in [*old[:1], *reversed(warm), *old[1:]]:
        victims.append(victim)
        free += victim.bytes
        if need_bytes <= free:
            return _take_over(victims)
    young = [h.loaded_at_s + min_loaded_s for h in loaded if h not in old]
    return Wait(min(young) if young else None)


def keeps_process(left_bytes: int, need_bytes: int, base_bytes: int, free_bytes: int) -> bool:
    """Whether an emptied runner may take the next engine, or is to be replaced.

    Args:
        left_bytes: What the emptied process still holds.
        need_bytes: What a process that has just imported its engine would hold after the load.
        base_bytes: What such a process holds before it.
        free_bytes: What the budget leaves, without this runner.
    """
    return left_bytes + need_bytes - base_bytes <= free_bytes


def _take_over(victims: Sequence[Holding]) -> Placement:
    target = next((v for v in victims if v.engine is not None), victims[0])
    kill = tuple(v.runner for v in victims if v is not target)
    return Placement("reused" if target.engine is not None else "warm", target.runner, kill)
