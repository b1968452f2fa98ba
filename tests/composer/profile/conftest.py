"""Scripted experts, a few cases, and a pool that remembers how it was used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from composer.experts import Registry, load_experts
from composer.pool.pool import Pool
from composer.profile import Case, Profile, profile
from composer.types import Outcome, Request, RequestId

EXPERTS = """
experts:
  ada:
    engine: scripted
    engine_args: {text: "I do not know.", replies: {"17": "The answer is 42.", "Oslo": "B"}}
    description: Knows numbers.
    params_b: 0.5
    price: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
  bob:
    engine: scripted
    engine_args: {text: "Yes, it is.", failures: {"17": refused}}
"""
CASES = (
    Case("sum", "What is 17 + 25?", "42", "number", "maths"),
    Case("city", "The capital of Norway?\nA. Bergen\nB. Oslo", "(b)", "choice", "cities", "test"),
    Case("sky", "Is the sky blue?", "Yes", "yes_no"),
)
RunProfile = Callable[..., Profile]


@dataclass
class Watch:
    """How the pool of the last profile was used."""

    asked: list[Request] = field(default_factory=list[Request])
    """All that was asked of experts, in order."""
    running: int = 0
    most_at_once: int = 0


class WatchedPool(Pool):
    """A pool that notes how it is used."""

    def __init__(self, registry: Registry, watch: Watch, *, cache: Path) -> None:
        super().__init__(registry, cache=cache)
        self._watch = watch

    async def run(
        self, requests: Sequence[Request], *, replica: int | None = None
    ) -> AsyncGenerator[tuple[RequestId, Outcome]]:
        watch = self._watch
        watch.asked += requests
        watch.running += len(requests)
        watch.most_at_once = max(watch.most_at_once, watch.running)
        async for request_id, outcome in super().run(requests, replica=replica):
            watch.running -= 1
            yield request_id, outcome


@pytest.fixture
def watch() -> Watch:
    """How the pool of the last profile was used."""
    return Watch()


@pytest.fixture
def run_profile(tmp_path: Path, watch: Watch) -> RunProfile:
    """Runs a profile of the cases in a folder of its own."""

    async def run(text: str, cases: Iterable[Case], **options: Any) -> Profile:
        path = tmp_path / "experts.yaml"
        path.write_text(text, encoding="utf-8")
        registry = load_experts(path)
        watch.asked.clear()
        async with WatchedPool(registry, watch, cache=tmp_path) as pool:
            return await profile(tuple(cases), registry, pool, tmp_path / "profile", **options)

    def run_profile(text: str = EXPERTS, cases: Iterable[Case] = CASES, **options: Any) -> Profile:
        return asyncio.run(run(text, cases, **options))

    return run_profile


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "profile" / "journal.jsonl"


def lines(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
