"""Whose turn it is to use the cores: a pure policy.

Each machine has slots: as many local engines load or generate on it at one time. An engine that has
its turn takes in new requests as they come until one that waits longer has no slot, or no room in
memory; then it finishes what it runs and hands over. Engines that compute elsewhere need no turn.
Where loading ahead is allowed, one engine beyond the slots may be loaded while others generate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    nodes: tuple[str, ...] = ()
    """The machine that it is on; or, while it is on none, those that it may be loaded on. A local
    engine without any is to be loaded: that finds out which there are."""
    is_wanted: bool = False
    """Whether it is to be loaded although nothing waits for it yet."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What an engine may do now."""

    key: str
    action: Literal["run", "load"]
    is_ahead: bool = False
    """Whether it is loaded beyond the slots."""


def next_turns(
    engines: Sequence[EngineView], slots: Mapping[str, int], *, load_ahead: bool = False
) -> list[Turn]:
    """The engines that may take in their waiting requests, or be loaded for them.

    The engine that waits longest comes first.

    Args:
        engines: All that have a runner or waiting requests.
        slots: Of each machine.
        load_ahead: Whether an engine may be loaded beyond the slots.
    """
    free = dict(slots)
    busy = [engine.nodes for engine in engines if engine.is_local and engine.is_busy]
    # Those of one machine first: one that loads may be on whichever these leave free.
    for nodes in sorted(filter(None, busy), key=lambda nodes: (len(nodes), nodes)):
        node = _first_free(nodes, free) or nodes[0]
        free[node] = free.get(node, 0) - 1
    can_load_ahead = load_ahead and not any(
        e.is_local and e.is_busy and not e.is_up for e in engines
    )
    contended: set[str] = set()
    turns: list[Turn] = []
    for engine in sorted(engines, key=_by_age):
        if engine.oldest_s is None and not engine.is_wanted:
            continue
        action: Literal["run", "load"] = "run" if engine.is_up else "load"
        if engine.oldest_s is None and (engine.is_up or engine.is_busy):
            continue
        if engine.is_blocked and not engine.is_up:
            contended.update(engine.nodes)
            continue
        if not engine.is_local:
            if engine.is_up or not engine.is_busy:
                turns.append(Turn(engine.key, action))
        elif engine.is_busy:
            if engine.is_up and contended.isdisjoint(engine.nodes):
                turns.append(Turn(engine.key, action))
        elif not engine.nodes:
            turns.append(Turn(engine.key, action))
        elif (node := _first_free(engine.nodes, free)) is not None:
            free[node] -= 1
            turns.append(Turn(engine.key, action))
        else:
            contended.update(engine.nodes)
            if action == "load" and can_load_ahead:
                can_load_ahead = False
                turns.append(Turn(engine.key, action, is_ahead=True))
    return turns


def _by_age(engine: EngineView) -> tuple[bool, float, str]:
    return engine.oldest_s is None, engine.oldest_s or 0.0, engine.key


def _first_free(nodes: Sequence[str], free: Mapping[str, int]) -> str | None:
    return next((node for node in nodes if free.get(node, 0) > 0), None)
