"""Which queries wait for which engine, and how much they wait for: a few numbers each."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Load:
    """What waits for one engine."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As many as are expected."""
    waited_s: float = 0.0
    """How long the oldest of it has waited."""

    def __add__(self, other: Load) -> Load:
        return Load(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            max(self.waited_s, other.waited_s),
        )


class Waiting:
    """Rows that wait, for each engine in the order in which they came."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self.requests = 0
        """That wait, for all engines together."""

    def add(self, engine: str, row: int, load: Load) -> None:
        """A row waits for an engine, with this much."""
        self._queues.setdefault(engine, _Queue()).add(row, load)
        self.requests += load.requests

    def take(self, engine: str) -> int | None:
        """The row that waits longest for the engine; it waits no more. None: nobody waits."""
        queue = self._queues.get(engine)
        if queue is None:
            return None
        before = queue.load.requests
        row = queue.take()
        self.requests -= before - queue.load.requests
        if queue.is_empty:
            del self._queues[engine]
        return row

    def loads(self) -> Mapping[str, Load]:
        """What waits for each engine that anyone waits for."""
        return {engine: queue.aged() for engine, queue in self._queues.items()}

    def __contains__(self, engine: str) -> bool:
        return engine in self._queues


class _Queue:
    """Rows with their loads, in columns of numbers."""

    def __init__(self) -> None:
        self._rows, self._requests = array("q"), array("l")
        self._prompt_tokens, self._completion_tokens = array("l"), array("l")
        self._since_s = array("d")
        self._next = 0
        self.load = Load()

    @property
    def is_empty(self) -> bool:
        return self._next == len(self._rows)

    def add(self, row: int, load: Load) -> None:
        self._rows.append(row)
        self._requests.append(load.requests)
        self._prompt_tokens.append(load.prompt_tokens)
        self._completion_tokens.append(load.completion_tokens)
        self._since_s.append(time.monotonic())
        self.load += load

    def aged(self) -> Load:
        return replace(self.load, waited_s=time.monotonic() - self._since_s[self._next])

    def take(self) -> int:
        at, self._next = self._next, self._next + 1
        self.load += Load(
            -self._requests[at], -self._prompt_tokens[at], -self._completion_tokens[at]
        )
        return self._rows[at]
