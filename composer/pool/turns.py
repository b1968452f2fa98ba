"""Whose turn it is to use the cores: a pure policy.

At most `busy_engines` local engines load or generate at one time. An engine that has its turn takes
in new requests as they come until one that waits longer has no core, or no room in memory; then it
finishes what it runs and hands over. Engines that compute elsewhere need no turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine with waiting requests or a turn, as the policy sees it."""

    key: str
    is_local: bool
    is_up: bool
    """Whether a runner holds it."""
    is_busy: bool
    """Whether it is loading or has requests running."""
    is_blocked: bool = False
    """Whether it needs a runner and there is no room for one."""
    oldest_s: float | None = None
    """When its longest waiting request was accepted; None: nothing waits."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What an engine may do now."""

    key: str
    action: Literal["run", "load"]


def next_turns(engines: Sequence[EngineView], busy_engines: int) -> list[Turn]:
    """The engines that may take in their waiting requests, or be loaded for them.

    The engine that waits longest comes first.
    """
    free = busy_engines - sum(e.is_local and e.is_busy for e in engines)
    turns: list[Turn] = []
    is_someone_waiting = False
    for engine in sorted(engines, key=lambda e: (e.oldest_s or 0.0, e.key)):
        if engine.oldest_s is None:
            continue
        if engine.is_blocked and not engine.is_up:
            is_someone_waiting = is_someone_waiting or engine.is_local
            continue
        action: Literal["run", "load"] = "run" if engine.is_up else "load"
        if not engine.is_local:
            if engine.is_up or not engine.is_busy:
                turns.append(Turn(engine.key, action))
        elif engine.is_busy:
            if engine.is_up and not is_someone_waiting:
                turns.append(Turn(engine.key, action))
        elif free > 0:
            free -= 1
            turns.append(Turn(engine.key, action))
        else:
            is_someone_waiting = True
    return turns
