"""A batch of real models on vLLM engines, with memory for one of two at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.assembly import compose
from composer.experts import AggregatorConfig, ChooseRule, Composition, RouterConfig
from composer.orchestrator import Composer

if TYPE_CHECKING:
    from composer.experts import Registry

pytestmark = [pytest.mark.models, pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SMALL: dict[str, Any] = {"max_model_len": 1024, "kv_cache_memory_bytes": 1 << 27}


@pytest.fixture
def composer(live_registry: Registry, tmp_path: Path) -> Composer:
    """Two engines of the same model, and memory for one of them."""
    smol = live_registry.experts["smol"]
    experts = {
        name: smol.model_copy(update={"name": name, "engine_args": {**SMALL, "seed": seed}})
        for seed, name in enumerate(("smol", "twin"))
    }
    panel = Composition(
        router=RouterConfig(name="random"),
        choose=ChooseRule(k=2),
        aggregator=AggregatorConfig.model_validate({"name": "synthesis", "by": "smol"}),
    )
    registry = replace(live_registry, experts=experts, compositions={"panel": panel})
    limits = registry.pool.model_copy(update={"memory_gib": 2.0})
    return compose(replace(registry, pool=limits))


async def test_a_batch_loads_each_engine_once_and_answers_everything(
    composer: Composer, tmp_path: Path
) -> None:
    lines = [{"id": str(n), "prompt": f"What comes after {n}?"} for n in range(8)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    async with composer:
        report = await composer.batch(path, "panel", tmp_path / "run")

    results = [json.loads(line) for line in report.results.read_text("utf-8").splitlines()]
    assert (report.loads, report.n_answered, report.n_failed) == (2, 8, 0)
    assert [stage.experts for stage in report.stages] == [("twin",), ("smol",)]
    assert all(stage.load_s > 0 for stage in report.stages)
    assert sorted(r["id"] for r in results) == [line["id"] for line in lines]
    assert all(r["answer"].strip() and r["expert"] == "smol" for r in results)
