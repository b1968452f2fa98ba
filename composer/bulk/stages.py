"""Which engine is asked next: the plan of all that waits, made anew with what was measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from composer.backends import GIB, backend_entry
from composer.bulk.waiting import Load
from composer.composed import max_tokens
from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.nodes import no_machine
from composer.pool.plan import EngineCost, Node, Plan, Waiting, make_plan
from composer.pool.pool import Pool
from composer.tools import estimate_tokens
from composer.types import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROMPT_TOKENS_PER_S = 2000.0
COMPLETION_TOKENS_PER_S = 300.0
LOAD_S = 10.0
"""Guesses for what was never measured: a small model on a few cores."""
MIN_MEASURED_S = 1.0
"""For a rate to be worth remembering."""
MAX_PARTS = 64
"""That what waits for one engine may be split into between copies of it."""


def expected_load(registry: Registry, request: Request) -> Load:
    """What a request is expected to take: a text as long as it may become."""
    tokens = request.sampling.max_tokens or max_tokens(registry, request.expert)
    n_texts = 0 if request.continuation is not None else request.sampling.n or 1
    return Load(1, estimate_tokens(request.messages), tokens * n_texts)


@dataclass(slots=True)
class _Measured:
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(eq=False, slots=True)
class StagePlanner:
    """Plans stages for a pool, and learns how fast its engines are."""

    registry: Registry
    pool: Pool
    last: Collection[str] = ()
    """Experts that flows will ask later again: their engines' turns come at the end."""
    _measured: dict[str, _Measured] = field(default_factory=dict[str, _Measured])
    _keys: dict[str, str] = field(default_factory=dict[str, str])

    def key(self, expert: str) -> str:
        """The engine that serves an expert."""
        if expert not in self._keys:
            self._keys[expert] = self.registry.engine_spec(expert).key
        return self._keys[expert]

    def experts(self, key: str) -> tuple[str, ...]:
        """The experts that an engine serves."""
        return tuple(name for name in self.registry.experts if self.key(name) == key)

    def is_local(self, key: str) -> bool:
        """Whether the engine takes one of this machine's slots."""
        return backend_entry(self.registry.experts[self.experts(key)[0]].engine).is_local

    def load_s(self, expert: str) -> float:
        """Seconds until the expert could start: 0 if it is up, a guess if it was never loaded."""
        is_up = any(r.is_up and expert in r.experts for r in self.pool.runners())
        if is_up or not self.is_local(self.key(expert)):
            return 0.0
        return self.pool.load_seconds(expert) or LOAD_S

    def measure(self, key: str, completion_tokens: int, seconds: float) -> None:
        """Take note of what an engine said in how long, the load left out."""
        measured = self._measured.setdefault(key, _Measured())
        measured.completion_tokens += completion_tokens
        measured.seconds += seconds

    def keep_rates(self) -> None:
        """Have the pool remember what was measured, for batches to come."""
        for key, measured in self._measured.items():
            if measured.completion_tokens and measured.seconds > MIN_MEASURED_S:
                rate = measured.completion_tokens / measured.seconds
                self.pool.keep_rate(self.experts(key)[0], rate)

    def plan(self, loads: Mapping[str, Load]) -> Plan:
        """The stages in which all that waits for local engines is asked.

        Raises:
            ConfigError: An engine is larger than the memory that experts may use, or there is no
                machine for any.
        """
        keys = [key for key in loads if self.is_local(key)]
        nodes = self._nodes(keys)
        if keys and not nodes:
            raise no_machine(self.registry.pool)
        for key in keys:
            self._check_room(key)
        most = MAX_PARTS if self.n_slots > 1 else 1
        parts = [min(most, max(1, loads[key].requests)) for key in keys]
        age_limit_s = self.registry.pool.age_limit_s

        def column(values: Sequence[float]) -> NDArray[np.float64]:
            return np.repeat(np.array(values, np.float64), parts)

        share = 1.0 / column(parts)
        prompt = column([loads[key].prompt_tokens for key in keys]) * share
        completion = column([loads[key].completion_tokens for key in keys]) * share
        waited_s = column([loads[key].waited_s for key in keys]).astype(np.float32)
        waiting = Waiting(
            engine=np.repeat(np.arange(len(keys), dtype=np.int32), parts),
            prompt_tokens=np.rint(prompt).astype(np.int64),
            completion_tokens=completion.astype(np.float32),
            waited_s=None if age_limit_s is None else waited_s,
        )
        return make_plan(
            waiting,
            [self._cost(key) for key in keys],
            nodes,
            last={self.key(expert) for expert in self.last},
            age_limit_s=age_limit_s,
        )

    @property
    def n_slots(self) -> int:
        """Engines that generate at one time, on all machines together."""
        return sum(node.slots for node in self.pool.nodes)

    def _nodes(self, keys: Sequence[str]) -> list[Node]:
        """The machines, and which of these engines each has up."""
        up: dict[str, list[str]] = {}
        for runner in self.pool.runners():
            if runner.is_up and runner.experts:
                up.setdefault(runner.node, []).append(self.key(runner.experts[0]))
        return [
            Node(
                node.name,
                node.engine_bytes,
                node.slots,
                resident=tuple(key for key in up.get(node.name, ()) if key in keys),
                can_load_ahead=self.registry.pool.load_ahead,
            )
            for node in self.pool.nodes
        ]

    def _check_room(self, key: str) -> None:
        name = self.experts(key)[0]
        need, budget = self.pool.need_bytes(name), self.pool.budget_bytes
        if need > budget:
            raise ConfigError(
                f"expert {name!r} takes {need / GIB:.2f} GiB, {(need - budget) / GIB:.2f} GiB more "
                "than experts may; raise pool.memory_gib or lower "
                "engine_args.kv_cache_memory_bytes"
            )

    def _cost(self, key: str) -> EngineCost:
        expert = self.experts(key)[0]
        price = self.registry.experts[expert].price
        measured = self._measured.get(key)
        rate = self.pool.tokens_per_s(expert) or COMPLETION_TOKENS_PER_S
        if measured is not None and measured.completion_tokens and measured.seconds > 0:
            rate = measured.completion_tokens / measured.seconds
        return EngineCost(
            key,
            self.pool.need_bytes(expert),
            self.pool.load_seconds(expert) or LOAD_S,
            PROMPT_TOKENS_PER_S,
            rate,
            price.input_usd_per_mtok,
            price.output_usd_per_mtok,
        )
