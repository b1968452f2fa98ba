"""One request on its way through the pool."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from composer.types import Completion, Delta, Failure, FailureKind, Request, Restart

JobEvent = Delta | Restart | Completion | Failure


@dataclass(eq=False, slots=True)
class Job:
    """One accepted request; it is closed once its outcome has been handed over."""

    request: Request
    sink: asyncio.Queue[JobEvent]
    stream: bool
    replica: int = 0
    """The copy of its engine that it goes to."""
    accepted_s: float = field(default_factory=time.perf_counter)
    attempts: int = 1
    has_text: bool = False
    """Whether deltas of this attempt have been handed over."""
    submitted_s: float | None = None
    loading_s: float = 0.0
    timer: asyncio.TimerHandle | None = None
    is_closed: bool = False

    def emit(self, event: Delta | Restart) -> None:
        """Hand over a part of the stream."""
        if not self.is_closed:
            self.has_text = isinstance(event, Delta)
            self.sink.put_nowait(event)

    def close(self, outcome: Completion | Failure | None) -> None:
        """Hand over the outcome, or none where nobody waits for it; later ones are dropped."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.timer is not None:
            self.timer.cancel()
        if outcome is not None:
            self.sink.put_nowait(outcome)

    def failure(self, kind: FailureKind, message: str, *, retryable: bool = False) -> Failure:
        """A failure of this job as it stands."""
        request = self.request
        return Failure(request.id, request.expert, kind, message, retryable, self.attempts)

    def timed_out(self) -> Failure:
        """The failure of a deadline, with where the time went."""
        now = time.perf_counter()
        begun = self.submitted_s if self.submitted_s is not None else now
        waited = max(0.0, begun - self.accepted_s - self.loading_s)
        return self.failure(
            "timeout",
            f"no answer within {now - self.accepted_s:.1f} s (waited {waited:.1f}, loading "
            f"{self.loading_s:.1f}, generating {now - begun:.1f}); raise the deadline",
        )

    def account(self, completion: Completion, *, runner: str | None, cost_usd: float) -> Completion:
        """The completion with what the pool knows of it."""
        begun = self.submitted_s if self.submitted_s is not None else self.accepted_s
        return replace(
            completion,
            queued_s=max(0.0, begun - self.accepted_s - self.loading_s),
            loading_s=self.loading_s,
            attempts=self.attempts,
            runner=runner,
            cost_usd=cost_usd,
        )
