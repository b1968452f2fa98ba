"""Which engine is asked next: the plan of all that waits, made anew with what was measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from composer.backends import GIB, backend_entry
from composer.bulk.waiting import Load
from composer.composed import max_tokens
from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.plan import EngineCost, Node, Plan, Waiting, make_plan
from composer.pool.pool import Pool
from composer.tools import estimate_tokens
from composer.types import Request

PROMPT_TOKENS_PER_S = 2000.0
COMPLETION_TOKENS_PER_S = 300.0
LOAD_S = 10.0
"""Guesses for what was never measured: a small model on a few cores."""


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
        is_up = any(expert in runner.experts for runner in self.pool.runners())
        if is_up or not self.is_local(self.key(expert)):
            return 0.0
        return self.pool.load_seconds(expert) or LOAD_S

    def measure(self, key: str, completion_tokens: int, seconds: float) -> None:
        """Take note of what an engine said in how long, the load left out."""
        measured = self._measured.setdefault(key, _Measured())
        measured.completion_tokens += completion_tokens
        measured.seconds += seconds

    def plan(self, loads: Mapping[str, Load]) -> Plan:
        """The stages in which all that waits for local engines is asked.

        Raises:
            ConfigError: An engine is larger than the memory that experts may use.
        """
        keys = [key for key in loads if self.is_local(key)]
        waiting = Waiting(
            engine=np.arange(len(keys), dtype=np.int32),
            prompt_tokens=np.array([loads[k].prompt_tokens for k in keys], np.int64),
            completion_tokens=np.array([loads[k].completion_tokens for k in keys], np.float32),
        )
        held = {expert for runner in self.pool.runners() for expert in runner.experts}
        up = {self.key(expert) for expert in held & self.registry.experts.keys()}
        node = Node(
            "this machine",
            self.pool.budget_bytes,
            self.registry.pool.busy_engines,
            resident=tuple(key for key in keys if key in up),
        )
        last = {self.key(expert) for expert in self.last}
        for key in keys:
            self._check_room(key)
        return make_plan(
            waiting, [self._cost(key) for key in keys], [node], last=last, replicas=False
        )

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
        rate = COMPLETION_TOKENS_PER_S
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
