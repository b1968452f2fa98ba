"""Leaves an endpoint alone for a while once it has failed several times in a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, NewType

Permit = NewType("Permit", int)
"""Leave to make one call; worth nothing once the breaker's state has changed."""


class CircuitBreaker:
    """The state of one endpoint, from the calls made to it; does no I/O and never waits.

        closed --- N failures in a row ---> open --- cool-down over ---> half open
          ^                                  ^                             |   |
          |                                  +------- the probe fails -----+   |
          +------------------------------ the probe succeeds ------------------+

    Each call asks for a permit first and settles it when it ends. Calls that began before the last
    change of state are not counted: a slow one says nothing of how the endpoint is now.

    Source: Nygard, "Release It!", Stability Patterns, "Circuit Breaker".
    """

    def __init__(
        self,
        *,
        max_failures: int = 5,
        cool_down_s: float = 30.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = max_failures
        self._cool_down_s = cool_down_s
        self._now = now
        self._state: Literal["closed", "open", "half_open"] = "closed"
        self._epoch = 0
        self._failures = 0
        self._opened_s = 0.0

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Whether calls may pass: all, none, or one probe (which is under way when half open)."""
        return self._state

    @property
    def wait_s(self) -> float:
        """Seconds until the next probe may pass; 0 where nothing but a probe is in the way."""
        if self._state != "open":
            return 0.0
        return max(0.0, self._opened_s + self._cool_down_s - self._now())

    def admit(self) -> Permit | None:
        """A permit for one call, to be settled; None: the endpoint is to be left alone."""
        if self._state == "half_open" or self.wait_s > 0:
            return None
        if self._state == "open":
            self._change("half_open")
        return Permit(self._epoch)

    def settle(self, permit: Permit, *, is_up: bool | None) -> None:
        """End a call.

        Args:
            permit: What `admit` gave.
            is_up: Whether the endpoint did its part; None: the call was withdrawn before that was
                known.
        """
        if permit != self._epoch:
            return
        if is_up is None:
            if self._state == "half_open":
                # The cool-down is over already, so the next call becomes the probe.
                self._change("open")
        elif is_up:
            self._failures = 0
            if self._state == "half_open":
                self._change("closed")
        else:
            self._failures += 1
            if self._state == "half_open" or self._failures >= self._max_failures:
                self._opened_s = self._now()
                self._change("open")

    def _change(self, state: Literal["closed", "open", "half_open"]) -> None:
        self._state = state
        self._epoch += 1
