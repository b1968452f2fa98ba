"""The whole path with nothing faked: real models, on vLLM engines, inside Ray actors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from composer.aggregators.synthesis.synthesis import SynthesisAggregator
from composer.assembly import compose, default_encoder
from composer.backends.sources import cache_dir
from composer.experts import (
    ChooseRule,
    Expert,
    PoolSettings,
    Registry,
    SamplingDefaults,
    load_experts,
)
from composer.orchestrator import Composed, Composer
from composer.pool.pool import Pool
from composer.tools import PoolTools
from composer.types import (
    Answer,
    Completion,
    Delta,
    Failure,
    Message,
    Outcome,
    Request,
    Restart,
    Sampling,
)
from routers import make_router

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.asyncio(loop_scope="module"),
]

STARTER = Path(__file__).parent.parent / "experts.yaml"
SHORT = Sampling(temperature=0.0, max_tokens=12)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def composer() -> AsyncIterator[Composer]:
    """The starter pool as it is shipped."""
    async with compose(load_experts(STARTER)) as running:
        yield running


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


async def one(pool: Pool, request: Request) -> Outcome:
    (outcome,) = [outcome async for _, outcome in pool.run([request])]
    return outcome


async def done(pool: Pool, request: Request) -> Completion:
    outcome = await one(pool, request)
    assert isinstance(outcome, Completion), outcome
    return outcome


async def test_a_question_of_fact_goes_to_the_base_model_and_is_answered_with_its_bos_token(
    composer: Composer,
) -> None:
    answer = await composer.ask("What is the capital of France?")
    assert answer.expert == "gemma"
    assert "Paris" in answer.text
    assert answer.prompt_tokens > 0
    assert answer.completions[0].runner == "warm"
    assert answer.selection is not None
    assert "nearest is" in answer.selection.choices[0].evidence.reason


async def test_a_task_for_an_instructed_model_goes_to_the_other_family_in_its_own_process(
    composer: Composer,
) -> None:
    answer = await composer.ask("Write a short email to my manager asking for Monday off.")
    assert answer.expert == "smol"
    assert len(answer.text) > 20
    pids = {runner.pid for runner in composer.pool.runners() if runner.experts}
    assert len(pids) == 2
    assert os.getpid() not in pids


async def test_two_experts_are_combined_and_the_answer_streams(composer: Composer) -> None:
    kinds: list[str] = []
    said = ""
    async for event in composer.stream("Why do leaves fall in autumn?", composition="panel"):
        kinds.append(type(event).__name__)
        match event:
            case Delta(_, _, text):
                said += text
            case Restart():
                said = ""
            case Answer() as answer:
                assert said == answer.text
                assert {c.expert for c in answer.completions} == {"smol", "gemma"}
                assert len(answer.completions) == 3
    assert kinds.count("Delta") > 3
    assert kinds[-1] == "Answer"


async def test_a_synthesis_is_heard_before_it_is_complete(composer: Composer) -> None:
    heard_s: list[float] = []
    answer = None
    async for event in composer.stream("Name three things to do in rain.", composition="panel"):
        match event:
            case Delta():
                heard_s.append(time.perf_counter())
            case Restart():
                heard_s.clear()
            case Answer():
                answer = event
    assert answer is not None
    (writing,) = (
        span
        for span in answer.trace
        if span.name == "ask" and span.attributes["purpose"] == "aggregate"
    )
    assert answer.details["synthesised"] is True
    assert answer.completion_tokens > 3
    assert writing.start_s < heard_s[0] < writing.end_s


async def test_a_proposer_whose_process_is_killed_does_not_take_the_answer_with_it() -> None:
    shipped = load_experts(STARTER).experts
    talkative = {"sampling": SamplingDefaults(max_tokens=600)}
    experts = {"smol": shipped["smol"], "gemma": shipped["gemma"].model_copy(update=talkative)}
    settings = PoolSettings(memory_gib=8, cores=2, busy_engines=2, warm_spares=0, max_attempts=1)
    registry = Registry(experts, {}, settings, STARTER)
    router = make_router("fixed", experts, {"expert": "smol"}, encoder=default_encoder(cache_dir()))
    panel = Composed("panel", router, ChooseRule(k=2), SynthesisAggregator(by="smol"))
    async with Composer(registry, {"panel": panel}, pool=Pool(registry)) as composer:
        for expert in experts:
            await done(composer.pool, Request(f"warm/{expert}", expert, user("Hello"), SHORT))
        victim = next(r.pid for r in composer.pool.runners() if "gemma" in r.experts)
        assert victim is not None
        asking = asyncio.create_task(composer.ask("Tell me a story.", composition="panel"))
        await asyncio.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        answer = await asking
    assert answer.expert == "smol"
    assert answer.text
    assert answer.details["proposers"] == ("smol",)
    assert [(f.expert, f.kind) for f in answer.failures] == [("gemma", "unavailable")]


async def test_the_tokens_that_are_counted_are_those_the_engine_sees(composer: Composer) -> None:
    tools = PoolTools(composer.pool)
    for expert in ("smol", "gemma"):
        await composer.pool.resolve(expert)
        messages = (Message("system", "Be brief."), *user("Où est la tour Eiffel? 漢字 🙂"))
        completion = await done(
            composer.pool, Request(f"count/{expert}", expert, messages, sampling=SHORT)
        )
        assert completion.prompt_tokens == tools.count(expert, messages)
        assert tools.limit(expert) == 2048


async def test_a_prompt_longer_than_every_context_fails_with_the_numbers(
    composer: Composer,
) -> None:
    outcome = await one(composer.pool, Request("long", "smol", user("word " * 3000)))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "too_long"
    assert "2048" in outcome.message
    assert "max_model_len" in outcome.message


async def test_samples_schema_logprobs_and_continuations_work(composer: Composer) -> None:
    pool = composer.pool
    drawn = await done(
        pool,
        Request(
            "n",
            "smol",
            user("Name a colour."),
            Sampling(temperature=1.0, max_tokens=4, n=2, seed=7),
            logprobs=2,
        ),
    )
    assert len(drawn.samples) == 2
    assert drawn.samples[0].logprobs is not None
    assert all(lp.logprob <= 0 and len(lp.top) >= 2 for lp in drawn.samples[0].logprobs)

    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    limit = Sampling(max_tokens=60)
    typed = await done(pool, Request("s", "smol", user("An age?"), limit, schema=schema))
    assert isinstance(json.loads(typed.text)["age"], int)

    scores: dict[str, float] = {}
    for word in (" Paris", " Banana"):
        scored = await done(
            pool,
            Request(
                f"c/{word}", "gemma", user("What is the capital of France?"), continuation=word
            ),
        )
        logprobs = scored.samples[0].logprobs
        assert logprobs is not None
        assert scored.text == word
        scores[word] = sum(lp.logprob for lp in logprobs)
    assert scores[" Paris"] > scores[" Banana"]


async def test_a_runner_killed_in_the_middle_of_a_real_answer_is_replaced(
    composer: Composer,
) -> None:
    pool = composer.pool
    await done(pool, Request("warm", "smol", user("Hello"), SHORT))
    victim = next(r.pid for r in pool.runners() if "smol" in r.experts)
    assert victim is not None
    request = Request("kill", "smol", user("Count to thirty."), Sampling(max_tokens=40), final=True)
    said, restarts, last = "", 0, None
    async for event in pool.stream(request):
        match event:
            case Delta(_, _, text):
                said += text
                if not restarts and psutil.pid_exists(victim):
                    os.kill(victim, signal.SIGKILL)
            case Restart():
                said, restarts = "", restarts + 1
            case outcome:
                last = outcome
    assert restarts == 1
    assert isinstance(last, Completion)
    assert said == last.text
    assert last.attempts == 2


async def test_lora_experts_share_the_engine_of_their_base(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 2)):
        _write_adapter(tmp_path / name, seed)
    base = load_experts(STARTER).experts["smol"]
    experts = {
        "smol": base,
        **{
            name: Expert.model_validate(
                {"name": name, "base": "smol", "adapter": str(tmp_path / name)}
            )
            for name in ("first", "second")
        },
    }
    settings = PoolSettings(memory_gib=8, cores=2, warm_spares=0)
    async with Pool(Registry(experts, {}, settings, STARTER)) as pool:
        alone = await done(pool, Request("alone", "smol", user("Tell me a story."), SHORT))
        requests = [
            Request(f"lora/{name}", name, user("Tell me a story."), SHORT) for name in experts
        ]
        texts = {
            outcome.expert: outcome.text
            async for _, outcome in pool.run(requests)
            if isinstance(outcome, Completion)
        }
        (runner,) = pool.runners()
        assert set(runner.experts) == set(experts)
    assert set(texts) == set(experts)
    assert len(set(texts.values())) == 3
    # The base beside its adapters speaks as it does alone; bfloat16 may differ after a few tokens.
    assert texts["smol"].split()[:3] == alone.text.split()[:3]


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [("max_modle_len", 2048, "max_modle_len"), ("max_model_len", 999_999, "999999")],
)
async def test_an_engine_argument_that_vllm_does_not_take_is_named_and_not_tried_twice(
    argument: str, value: int, message: str
) -> None:
    base = load_experts(STARTER).experts["smol"]
    odd = base.model_copy(update={"engine_args": {argument: value}})
    settings = PoolSettings(memory_gib=8, cores=2, warm_spares=0)
    async with Pool(Registry({"smol": odd}, {}, settings, STARTER)) as pool:
        outcome = await one(pool, Request("odd", "smol", user("Hello")))
    assert isinstance(outcome, Failure)
    assert message in outcome.message
    assert (outcome.kind, outcome.attempts) == ("unavailable", 1)


def _write_adapter(folder: Path, seed: int) -> None:
    """A LoRA adapter of rank 4 on the query projections, large enough to change what is said."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for layer in range(30):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = rng.normal(0, 0.5, (4, 576)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = rng.normal(0, 0.2, (576, 4)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "bias": "none",
        "base_model_name_or_path": "",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
