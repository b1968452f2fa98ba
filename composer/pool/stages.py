"""What a planner is told of engines, nodes and requests, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Int32Array = NDArray[np.int32]
    Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What the planner knows of one engine.

    Raises:
        ConfigError: A rate is not above 0, or the load takes no number of seconds from 0.
    """

    key: str
    memory_bytes: int
    load_s: float
    prompt_tokens_per_s: float
    """In a full batch, as is the next."""
    completion_tokens_per_s: float
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0

    def __post_init__(self) -> None:
        for kind, rate in (
            ("prompt", self.prompt_tokens_per_s),
            ("completion", self.completion_tokens_per_s),
        ):
            if not rate > 0:
                raise ConfigError(
                    f"engine {self.key!r} does {rate!r} {kind} tokens/s; give a rate above 0"
                )
        if not 0 <= self.load_s < math.inf:
            raise ConfigError(
                f"engine {self.key!r} loads in {self.load_s!r} s; give a number from 0"
            )


@dataclass(frozen=True, slots=True)
class Node:
    """One machine or GPU."""

    name: str
    memory_bytes: int
    slots: int
    """Engines that generate at one time."""
    resident: tuple[str, ...] = ()
    """Keys of engines that it holds now."""
    can_load_ahead: bool = False
    """Whether a core is free to load the next engine while one generates; memory is looked at."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigError(f"node {self.name!r} has {self.slots} slots; give it one at least")


@dataclass(frozen=True)
class Waiting:
    """The requests that wait, as columns of n rows.

    Raises:
        ValueError: Columns differ in length, or hold what is no number from 0.
    """

    engine: Int32Array
    """Which of the engines, [n]."""
    prompt_tokens: Int32Array | Int64Array
    """[n]."""
    completion_tokens: Float32Array
    """As expected, [n]."""
    waited_s: Float32Array | None = None
    """How long each has waited already, [n]; None: all alike."""

    def __post_init__(self) -> None:
        columns = [self.engine, self.prompt_tokens, self.completion_tokens]
        columns += [] if self.waited_s is None else [self.waited_s]
        if any(column.shape != (len(self.engine),) for column in columns):
            raise ValueError("the columns differ in length")
        if not all((column >= 0).all() and np.isfinite(column).all() for column in columns):
            raise ValueError("a column holds what is no number from 0")


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What one slot does for one engine, in seconds from now."""

    node: str
    slot: int
    """Counted on the node."""
    engine: str
    requests: Int64Array
    """Rows, the oldest first."""
    is_load: bool
    """Whether its engine is loaded for it; else the node holds it."""
    is_ahead: bool
    """Whether it is loaded while the slot's stage before still generates."""
    start_s: float
    """When it is loaded from, or used if nothing is loaded."""
    ready_s: float
    """When it generates from: loaded, and its slot free."""
    end_s: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan costs."""

    loads: int
    loaded_bytes: int
    seconds: float
    """Until the last stage ends."""
    prompt_tokens: int
    completion_tokens: int
    usd: float
    peak_bytes: int
    """The most that one node holds at one time."""


@dataclass(frozen=True)
class Plan:
    """Stages by their start, and what they cost."""

    stages: tuple[Stage, ...]
    estimate: Estimate
