"""Cascades of the starter pool: real models, on vLLM engines, say how sure they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from composer.assembly import compose
from composer.experts import load_experts
from composer.orchestrator import Composer
from composer.types import Answer, Delta, Restart

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.asyncio(loop_scope="module"),
]

STARTER = Path(__file__).parent.parent / "experts.yaml"
STAGES: dict[str, Any] = {"name": "cascade", "experts": ["smol", "gemma"], "answer_type": "text"}
CASCADES: dict[str, dict[str, Any]] = {
    "sure": {**STAGES, "confidence": "logprobs", "thresholds": [0.0]},
    "unsure": {**STAGES, "confidence": "logprobs", "thresholds": [1.1]},
    "verified": {**STAGES, "confidence": "verifier", "by": "smol", "thresholds": [1.1]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def composer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Composer]:
    """The starter pool with three cascades from the smaller model to the larger one."""
    settings: dict[str, Any] = yaml.safe_load(STARTER.read_text("utf-8"))
    router = {"name": "fixed", "expert": "smol"}
    settings["compositions"] = {
        name: {"router": router, "aggregator": aggregator} for name, aggregator in CASCADES.items()
    }
    for expert in settings["experts"].values():
        expert["sampling"] = {**expert["sampling"], "max_tokens": 16}
    path = tmp_path_factory.mktemp("cascade") / "experts.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    async with compose(load_experts(path)) as running:
        yield running


async def test_the_probability_of_its_own_tokens_lets_the_smaller_model_answer(
    composer: Composer,
) -> None:
    answer = await composer.ask("What is the capital of France?", composition="sure")

    (stage,) = answer.details["stages"]
    assert (answer.expert, stage["accepted"]) == ("smol", True)
    assert 0 < stage["confidence"] < 1
    assert answer.details["not_asked"] == ("gemma",)


async def test_the_larger_model_answers_what_the_smaller_is_not_sure_of_and_is_streamed(
    composer: Composer,
) -> None:
    said = ""
    answer: Answer | None = None
    async for event in composer.stream("What is the capital of France?", composition="unsure"):
        match event:
            case Delta(_, expert, text):
                assert expert == "gemma"
                said += text
            case Restart():
                said = ""
            case Answer():
                answer = event

    assert answer is not None
    assert said == answer.text
    assert "Paris" in answer.text
    assert 0 < answer.details["stages"][0]["confidence"] < 1


async def test_a_verifier_says_how_probable_it_is_that_the_answer_is_right(
    composer: Composer,
) -> None:
    answer = await composer.ask("What is the capital of France?", composition="verified")

    assert answer.expert == "gemma"
    assert [c.request_id.split("/", 1)[1] for c in answer.completions] == [
        "propose/smol",
        "verify/smol/smol",
        "propose/gemma",
    ]
    confidence = answer.details["stages"][0]["confidence"]
    assert confidence is None or 0 <= confidence <= 1
