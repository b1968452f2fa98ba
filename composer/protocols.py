"""The seams: what a router, an aggregator, a backend, a runner and an encoder must do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

from composer.types import (
    Annotation,
    Answer,
    Ask,
    Capabilities,
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Loaded,
    Message,
    Outcome,
    Query,
    Request,
    RequestId,
    Scores,
    Selection,
)

if TYPE_CHECKING:
    from composer.experts import Expert
    from composer.outcomes import OutcomeTable
    from composer.types import Float32Array

T = TypeVar("T")

Flow = Generator[Ask, Sequence[Outcome], T]
"""A computation that needs experts' words: yields `Ask`s, is sent outcomes, returns its result.

It does no I/O and is deterministic given its outcomes: no clock, no global random state. Any
driver can run it, pause it, or replay it. Closing it withdraws what it still waits for.
"""

RouterNeed = Literal["annotations", "likelihoods", "descriptions", "examples"]
AggregatorNeed = Literal["logprobs", "schema", "continuation", "peers", "n"]


class Tools(Protocol):
    """What a driver hands to a flow; both are pure."""

    def count(self, expert: str, messages: Sequence[Message]) -> int:
        """Tokens of the messages in the expert's own chat template and vocabulary.

        An estimate (characters / 4, rounded up, + 4 a message) where the tokenizer is remote.
        """
        ...

    def limit(self, expert: str) -> int | None:
        """The expert's context length in tokens, prompt and completion together; None: unknown."""
        ...


class Router(Protocol):
    """Scores experts for queries; it never chooses and never runs an expert."""

    name: str
    needs: frozenset[RouterNeed]

    def annotate(self, query: Query) -> Flow[Annotation] | None:
        """A flow that asks experts about the query, or None: none is needed."""
        ...

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """Predict every expert's quality for every query.

        Args:
            queries: n of them, n >= 1.
            annotations: One for each query; None where `annotate` gave no flow.

        Returns:
            Quality [n, m] float32 in [0, 1], NaN where unknown, over the router's m experts.

        Raises:
            RoutingError: The queries cannot be scored at all.
        """
        ...


class FittedRouter(Router, Protocol):
    """A router that learns from recorded outcomes."""

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that it scores: those of the table.

        Raises:
            RoutingError: It is not fitted.
        """
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings in use, JSON values; those that `fit` chooses are known after it."""
        ...

    def fit(self, table: OutcomeTable) -> Self:
        """Learn from all rows of the table; its experts become the columns of the scores.

        Neither the order of the rows nor that of the columns matters; unknown cells are unknown.

        Raises:
            ConfigError: The table cannot teach it.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write what it is and has learned: JSON and arrays, never a pickle.

        Raises:
            ConfigError: It is not fitted.
        """
        ...


class Aggregator(Protocol):
    """Turns what the selected experts say into one answer."""

    name: str
    needs: frozenset[AggregatorNeed]
    """What it asks of the engine of every expert that the router may choose."""
    experts: frozenset[str]
    """Experts that it asks by name, whomever the router chooses."""

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """Refuse a composition that cannot work; nothing is loaded.

        Args:
            experts: All of experts.yaml, by name; the router may choose any of them.
            k: How many are chosen.

        Raises:
            ConfigError: It cannot.
        """
        ...

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """The flow that asks the selection's experts and returns the answer.

        Raises:
            AggregationError: Nobody gave anything usable; the message names each failure.
        """
        ...


class Backend(Protocol):
    """Runs one engine at a time."""

    capabilities: Capabilities

    async def load(self, spec: EngineSpec) -> None:
        """Bring the engine up.

        Raises:
            ConfigError: The spec cannot work (a model file is missing, a wrong argument).
            ExpertUnavailable: It should work and did not.
        """
        ...

    def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure]:
        """Run the requests together; exactly one outcome each, in any order.

        Requests' sampling is complete (no None but `seed`). With `stream`, deltas of requests
        marked `final` come before their outcome and add up to the first sample's text. Each
        exception of the engine becomes a `Failure` here. Several calls may be under way at once.
        """
        ...

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """Stop these requests; each still gets its outcome, a `cancelled` failure."""
        ...

    async def unload(self) -> None:
        """Let go of the engine and its memory; `load` may follow."""
        ...


@runtime_checkable
class Sleeper(Protocol):
    """A `Backend` whose engine can leave the GPU and come back without being loaded anew."""

    async def sleep(self, level: Literal[1, 2]) -> None:
        """Leave the GPU; nothing runs, and it is awake.

        Args:
            level: 1: the weights are kept in the machine's own memory. 2: they are not.
        """
        ...

    async def wake(self) -> None:
        """Come back from sleep, ready to generate."""
        ...


class Runner(Protocol):
    """Where a backend lives: this event loop, or a process of its own. One engine at a time."""

    @property
    def pid(self) -> int | None:
        """Its own process; None: it has none, or has not said yet."""
        ...

    async def load(self, spec: EngineSpec) -> Loaded:
        """See `Backend.load`; also raises `ExpertUnavailable` when the process dies."""
        ...

    def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure]:
        """See `Backend.generate`.

        Raises:
            ExpertUnavailable: The process died; whatever has no outcome yet never gets one.
        """
        ...

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`. Returns at once; the acknowledgement is the outcome."""
        ...

    async def unload(self) -> int:
        """Empty the runner and return the bytes its process tree still holds."""
        ...

    async def sleep(self, level: Literal[1, 2]) -> int:
        """See `Sleeper.sleep`; returns the bytes that its process tree holds then."""
        ...

    async def wake(self) -> Loaded:
        """See `Sleeper.wake`; also raises `ExpertUnavailable` when the process dies."""
        ...

    async def memory_bytes(self) -> int:
        """What its process tree holds now; 0 for an inline runner of a remote engine."""
        ...

    async def kill(self) -> None:
        """End it now, with all of its processes. Never raises; may be called twice."""
        ...


class Encoder(Protocol):
    """Turns texts into unit-norm embeddings."""

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Embeddings [n, d] float32 with unit norm, in the order of the texts."""
        ...
