"""What a driver hands to flows: token counts and context lengths of a pool's experts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from composer.pool.pool import Pool
from composer.tokenizer import ChatTokenizer, context_length
from composer.types import EngineSpec, Message

CHARACTERS_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 4


class PoolTools:
    """See `Tools`. Exact for every expert whose engine the pool has resolved."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tokenizers: dict[str, ChatTokenizer] = {}

    def count(self, expert: str, messages: Sequence[Message]) -> int:
        """See `Tools.count`."""
        spec = self._pool.resolved(expert)
        if spec is None or spec.model_path is None:
            return estimate_tokens(messages)
        if spec.key not in self._tokenizers:
            tokenizer = ChatTokenizer.load(Path(spec.model_path), spec.chat_template)
            self._tokenizers[spec.key] = tokenizer
        return self._tokenizers[spec.key].count(messages)

    def limit(self, expert: str) -> int | None:
        """See `Tools.limit`."""
        spec = self._pool.resolved(expert)
        return context_limit(spec) if spec is not None else None


def estimate_tokens(messages: Sequence[Message]) -> int:
    """A guess where the tokenizer is out of reach: characters / 4, and 4 a message."""
    return sum(
        math.ceil(len(m.content) / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE for m in messages
    )


def context_limit(spec: EngineSpec) -> int | None:
    """The context length that an engine will have, from its arguments or else its model."""
    for key in ("max_model_len", "context"):
        if isinstance(spec.engine_args.get(key), int):
            return int(spec.engine_args[key])
    return context_length(Path(spec.model_path)) if spec.model_path is not None else None
