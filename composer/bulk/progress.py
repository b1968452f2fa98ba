"""How far a batch is, and what each stage of it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Where a batch stands."""

    phase: str
    """route, annotate or answer."""
    n_queries: int
    n_done: int
    """Queries with a result; while they are routed, those that are."""
    n_failed: int = 0
    experts: tuple[str, ...] = ()
    """Whose engines are up and asked now."""
    n_stages: int = 0
    """Begun so far."""
    loads: int = 0
    loads_left: int = 0
    """By the plan as it stands; what flows have not asked yet is not in it."""
    requests: int = 0
    """Answered so far, or failed."""
    requests_left: int = 0
    """Of those asked so far, what waits for an engine's turn; an answer may make some needless."""
    completion_tokens: int = 0
    tokens_per_s: float = 0.0
    left_s: float | None = None
    """By the plan as it stands; None: there is none yet."""


OnProgress = Callable[[BatchProgress], None]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One engine's turn, as it went."""

    engine: str
    experts: tuple[str, ...]
    start_s: float
    """On the batch's own clock, which begins when this process begins to answer."""
    load_s: float
    """0: it was up already, or asked nothing."""
    end_s: float
    requests: int
    completion_tokens: int
    slot: int | None = 0
    """Counted from 0 over all machines; None: it is an endpoint elsewhere, which takes none."""
    run: int = 1
    """Of the runs that the batch took, from 1: each has a clock of its own."""
