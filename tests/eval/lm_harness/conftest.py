"""Scripted experts for the harness, and its requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from composer.assembly import compose
from composer.experts import load_experts
from composer.orchestrator import Composer
from eval.lm_harness.library import Instance
from eval.lm_harness.model import ComposerLM
from eval.progress import open_bars
from routers.encoder import HashingEncoder

POET: Mapping[str, Any] = {"text": "Drip drop."}
COMPOSITIONS: Mapping[str, Any] = {
    "alone": {"router": {"name": "fixed", "expert": "clerk"}},
    "vote": {
        "router": {"name": "random"},
        "choose": {"k": 2},
        "aggregator": {"name": "vote", "answer_type": "number"},
    },
}


def experts_text(clerk: Mapping[str, Any], poet: Mapping[str, Any]) -> str:
    """An experts.yaml (as JSON) of two scripted experts."""
    scripts = {"clerk": clerk, "poet": poet}
    experts = {n: {"engine": "scripted", "engine_args": s} for n, s in scripts.items()}
    return json.dumps({"experts": experts, "compositions": COMPOSITIONS})


def generate(context: str, **settings: Any) -> Instance:
    """A request for a text."""
    return Instance("generate_until", {}, (context, {"until": ["\n\n"], **settings}), 0)


def score(context: str, text: str) -> Instance:
    """A request for a likelihood."""
    return Instance("loglikelihood", {}, (context, text), 0)


MakeModel = Callable[..., ComposerLM]


@pytest.fixture
def model_of(tmp_path: Path) -> Iterator[MakeModel]:
    """Makes the harness' model of a clerk with a script; it asks in the test's folder."""
    with asyncio.Runner() as runner, open_bars() as bars:
        made: list[Composer] = []

        def make(
            clerk: Mapping[str, Any], composition: str = "alone", poet: Mapping[str, Any] = POET
        ) -> ComposerLM:
            path = tmp_path / "experts.yaml"
            path.write_text(experts_text(clerk, poet), "utf-8")
            composer = compose(load_experts(path), cache=tmp_path, encoder=HashingEncoder())
            made.append(composer)
            return ComposerLM(composer, composition, tmp_path / "asked", runner=runner, bars=bars)

        yield make
        for composer in made:
            runner.run(composer.pool.close())
