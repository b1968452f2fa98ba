"""Who makes room: what an engine in memory is worth, by policy, as arithmetic on its last use.

The engine of least worth goes first; of equals, the one used least recently. The arithmetic is the
same on one engine's figures (the pool) and on columns of them (a simulator of whole traces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", float, "NDArray[np.float64]")
EvictionName = Literal["lru", "lfu", "greedy-dual", "belady"]


@dataclass(frozen=True)
class Use(Generic[Number]):
    """An engine when it is used."""

    at: Number
    """When, on any clock that goes forward."""
    uses: Number
    """Requests that it has ever been given, whether or not it stayed loaded in between."""
    load_s: Number
    """Seconds that its load takes."""
    bytes: Number
    """What it holds; above 0."""
    next_use: Number
    """When it is wanted next, on any clock that goes forward; inf: never again."""


class Worth(Protocol):
    """What an engine is worth keeping, from its last use."""

    def __call__(self, use: Use[Number]) -> Number:
        """Higher: kept longer."""
        ...


def recency(use: Use[Number]) -> Number:
    """LRU: when it was used."""
    return use.at


def frequency(use: Use[Number]) -> Number:
    """LFU: how often it was ever used, also before it was last loaded.

    Source: "perfect LFU" of Breslau, Cao, Fan, Phillips and Shenker, Web caching and Zipf-like
    distributions, 1999. Counts that end with an eviction would let newcomers evict each other for
    ever beside those that came first; counts of all engines cost nothing here.
    """
    return use.uses


def cost_by_size(use: Use[Number]) -> Number:
    """GreedyDual: seconds that keeping it saves, for each byte that it takes.

    Source: GreedyDual-Size with cost = load time, Cao and Irani, Cost-aware WWW proxy caching
    algorithms, 1997; of equal sizes it is the GreedyDual of Young, The k-server dual and loose
    competitiveness for paging, 1994.
    """
    return use.load_s / use.bytes


def farness(use: Use[Number]) -> Number:
    """Belady: the one that is wanted again last goes first, and before it who never is.

    Source: Belady, A study of replacement algorithms for a virtual-storage computer, 1966. Of
    engines of equal size no order needs fewer loads; of unequal ones it is a good rule and no more.
    """
    return -use.next_use


@dataclass(frozen=True, slots=True)
class Eviction:
    """One policy."""

    worth: Worth
    ages: bool = False
    """Whether the worth of whoever went last is added, so that what is costly but no longer used
    goes in the end (the inflation L of GreedyDual)."""


EVICTIONS: Mapping[EvictionName, Eviction] = {
    "lru": Eviction(recency),
    "lfu": Eviction(frequency),
    "greedy-dual": Eviction(cost_by_size, ages=True),
    "belady": Eviction(farness),
}


class Evictor:
    """A policy with what it remembers of the engines that it judges."""

    def __init__(self, name: EvictionName) -> None:
        """Store the policy that holds while no future is known."""
        self._eviction = EVICTIONS[name]
        self._uses: Counter[str] = Counter()
        self._floor = 0.0
        self._future: Mapping[str, int] = {}

    def foresee(self, keys: Sequence[str]) -> None:
        """Say in what order engines are wanted next; empty: nothing is known of it.

        While something is known, engines go by Belady's rule, whatever the policy.
        """
        self._future = {key: place for place, key in reversed(list(enumerate(keys)))}

    def count(self, key: str) -> None:
        """Take note of a request to an engine."""
        self._uses[key] += 1

    def credit(self, key: str, *, at_s: float, load_s: float, held_bytes: int) -> float:
        """What an engine that is used now is worth until it is used again."""
        use = Use(at_s, float(self._uses[key]), load_s, float(max(1, held_bytes)), inf)
        return self._eviction.worth(use) + (self._floor if self._eviction.ages else 0.0)

    def worth(self, key: str, credit: float) -> float:
        """What an engine of this credit is worth now: the future counts where it is known."""
        # `farness` of its place in the future.
        return -self._future.get(key, inf) if self._future else credit

    def evict(self, gone: Iterable[float]) -> None:
        """Take note of the credits of engines that make room."""
        self._floor = max([self._floor, *gone])
