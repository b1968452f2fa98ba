"""Cascades of the starter pool: real models, on vLLM engines, say how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from composer.orchestrator import Composer
from composer.types import Answer, Delta, Restart

if TYPE_CHECKING:
    from tests.conftest import MakeComposer

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.asyncio(loop_scope="session"),
]

STAGES: dict[str, Any] = {"name": "cascade", "experts": ["smol", "gemma"], "answer_type": "text"}
CASCADES: dict[str, dict[str, Any]] = {
    "sure": {**STAGES, "confidence": "logprobs", "thresholds": [0.0]},
    "unsure": {**STAGES, "confidence": "logprobs", "thresholds": [1.1]},
    "verified": {**STAGES, "confidence": "verifier", "by": "smol", "thresholds": [1.1]},
}


@pytest.fixture(scope="module")
def composer(compose_live: MakeComposer) -> Composer:
    """Three cascades from the smaller model to the larger one."""
    router = {"name": "fixed", "expert": "smol"}
    cascades = {name: {"router": router, "aggregator": each} for name, each in CASCADES.items()}
    return compose_live(["smol", "gemma"], cascades)


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
