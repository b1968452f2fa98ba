"""The turns that engines have: each on a slot, several for an engine that has copies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from composer.bulk.stages import StagePlanner
from composer.bulk.waiting import Waiting


@dataclass(eq=False, slots=True)
class Turn:
    """What one slot does for one engine."""

    key: str
    is_local: bool
    replica: int
    """The copy of the engine that it is of."""
    slot: int
    is_load: bool
    """Whether its engine has to be loaded for it."""
    start_s: float = field(default_factory=time.monotonic)
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """What waits for outcomes of its engine."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    load_s: float = 0.0
    requests: int = 0
    completion_tokens: int = 0


class Turns:
    """Those that there are."""

    def __init__(self, planner: StagePlanner, waiting: Waiting) -> None:
        """Store the parts.

        Args:
            planner: Knows engines and slots.
            waiting: What waits for engines.
        """
        self._planner = planner
        self._waiting = waiting
        self._turns: list[Turn] = []

    def __iter__(self) -> Iterator[Turn]:
        return iter(tuple(self._turns))

    def of(self, key: str) -> list[Turn]:
        """An engine's."""
        return [turn for turn in self._turns if turn.key == key]

    def begin(self, key: str, *, is_load: bool) -> Turn | None:
        """A turn for an engine, or for a further copy of it, if there is a slot."""
        is_local = self._planner.is_local(key)
        slot = self.free_slot() if is_local else 0
        if slot is None:
            return None
        taken = {turn.replica for turn in self.of(key)}
        replica = next(n for n in itertools.count() if n not in taken)
        turn = Turn(key, is_local, replica, slot, is_load)
        self._turns.append(turn)
        return turn

    def end(self, turn: Turn) -> None:
        """It is over."""
        self._turns.remove(turn)

    def free_slot(self) -> int | None:
        """The first that no turn is on; None: all are taken."""
        taken = {turn.slot for turn in self._turns if turn.is_local}
        return next((n for n in range(self._planner.n_slots) if n not in taken), None)

    def goes_on(self, turn: Turn) -> bool:
        """Whether it takes more queries in.

        It hands over where a machine has left, so that there are more turns than slots, and where
        others have come to wait for longer than they may. Of those that had before it began the
        plan knew; if they counted, two turns could hand over to each other for ever.
        """
        if not turn.is_local:
            return True
        local = [one for one in self._turns if one.is_local]
        if local.index(turn) >= self._planner.n_slots:
            return False
        limit_s = self._planner.registry.pool.age_limit_s
        if limit_s is None:
            return True
        so_far_s = time.monotonic() - turn.start_s
        return not any(
            limit_s < load.waited_s <= limit_s + so_far_s
            and self._planner.is_local(key)
            and not self.of(key)
            for key, load in self._waiting.loads().items()
        )
