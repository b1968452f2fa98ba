"""What runs that go on later compare: digests of what would make their outcomes other ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from composer.experts import Registry


def digest(value: object) -> str:
    """The SHA-256 of JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def settings_digest(registry: Registry, expert: str) -> str:
    """What makes an expert answer as it does: its weights, its engine's arguments, its sampling.

    Other adapters on its base, its price and what routers go by are no part of it.
    """
    entry = registry.experts[expert]
    spec = registry.engine_spec(expert)
    parts = [
        spec.engine,
        spec.source,
        spec.engine_args,
        spec.adapters.get(expert),
        spec.chat_template,
        entry.sampling.model_dump(),
    ]
    return digest([*parts, *(asdict(member) for member in spec.members)])
