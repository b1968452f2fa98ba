"""Pools of scripted experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from composer.experts import Expert, PoolSettings, Registry
from composer.types import Message, Request

MakeRegistry = Callable[..., Registry]
Ask = Callable[..., Request]


@pytest.fixture
def scripted() -> MakeRegistry:
    """A registry of scripted experts: name -> engine_args; other arguments are the pool's."""

    def make(
        scripts: dict[str, dict[str, Any]], *, runner: str = "inline", **pool: Any
    ) -> Registry:
        experts = {
            name: Expert.model_validate(
                {"name": name, "engine": "scripted", "runner": runner, "engine_args": script}
            )
            for name, script in scripts.items()
        }
        settings = {"memory_gib": 8, "cores": 2, "warm_spares": 0} | pool
        return Registry(experts, {}, PoolSettings.model_validate(settings), Path("experts.yaml"))

    return make


@pytest.fixture
def ask() -> Ask:
    """A streamed request to an expert; ids count up within a test."""
    n_asked = 0

    def make(expert: str, text: str = "hello", **fields: Any) -> Request:
        nonlocal n_asked
        n_asked += 1
        return Request(
            f"q{n_asked}/{expert}", expert, (Message("user", text),), final=True, **fields
        )

    return make
