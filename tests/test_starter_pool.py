"""The whole path with nothing faked: real models, on vLLM engines, inside Ray actors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from composer.aggregators.synthesis.synthesis import SynthesisAggregator
from composer.answers import extract_answer, same_answer
from composer.assembly import compose, default_encoder
from composer.backends.sources import cache_dir
from composer.composed import Composed
from composer.experts import (
    ChooseRule,
    Expert,
    PoolSettings,
    Registry,
    SamplingDefaults,
)
from composer.orchestrator import Composer
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
from eval.starter.items import make_items
from eval.starter.skills import SKILLS
from routers import make_router
from tests.conftest import PATIENCE_S
from tests.lora import adapter_weights, save_adapter

pytestmark = [
    pytest.mark.models,
    pytest.mark.ray,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.asyncio(loop_scope="session"),
]

SHORT = Sampling(temperature=0.0, max_tokens=12)
STEP_TOKENS = 64
"""That one engine reads in a step: a longer prompt is read in parts."""


@pytest.fixture(scope="module")
def composer(starter: Registry, live_pool: Pool) -> Composer:
    """The compositions that are shipped."""
    return Composer(starter, compose(starter).compositions, pool=live_pool)


@pytest.fixture(scope="module")
def small_registry(
    starter: Registry, smol: Path, tmp_path_factory: pytest.TempPathFactory
) -> Registry:
    """One model on two engines, which may be busy at once: with adapters, and for long answers."""
    base = starter.experts["smol"].model_copy(update={"sampling": SamplingDefaults(max_tokens=32)})
    brief = {
        "max_model_len": 512,
        "kv_cache_memory_bytes": 1 << 27,
        "max_num_seqs": 8,
        "max_num_batched_tokens": STEP_TOKENS,
    }
    talks = {"engine_args": brief, "sampling": SamplingDefaults(max_tokens=400)}
    experts = {"smol": base, "talker": base.model_copy(update={"name": "talker", **talks})}
    folder = tmp_path_factory.mktemp("loud")
    for seed, name in enumerate(("first", "second")):
        save_adapter(folder / name, adapter_weights(smol, seed, strength=10))
        experts[name] = Expert(name=name, base="smol", adapter=str(folder / name))
    limits = PoolSettings(
        memory_gib=8, cores=2, busy_engines=2, max_attempts=1, deadline_s=PATIENCE_S
    )
    return Registry(experts, {}, limits, starter.path)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_pool(small_registry: Registry) -> AsyncIterator[Pool]:
    """A pool of its own, in which a process may be killed."""
    async with Pool(small_registry) as pool:
        yield pool


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


async def one(pool: Pool, request: Request) -> Outcome:
    (outcome,) = [outcome async for _, outcome in pool.run([request])]
    return outcome


async def done(pool: Pool, request: Request) -> Completion:
    outcome = await one(pool, request)
    assert isinstance(outcome, Completion), outcome
    return outcome


async def computed(pid: int, seconds: float) -> None:
    """Wait until a process has used a core for so long, however busy the machine is."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    for _ in range(10_000):
        now = process.cpu_times()
        if now.user + now.system - before.user - before.system >= seconds:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} does not compute")


async def test_a_question_of_fact_goes_to_the_base_model_and_is_answered_with_its_bos_token(
    composer: Composer,
) -> None:
    answer = await composer.ask("What is the capital of France?")
    assert answer.expert == "gemma"
    assert "Paris" in answer.text
    assert answer.prompt_tokens > 0
    assert answer.selection is not None
    assert answer.selection.router == "stacked"
    assert (answer.selection.choices[0].quality or 0) > 0.35


async def test_a_task_for_an_instructed_model_goes_to_the_other_family_in_its_own_process(
    composer: Composer,
) -> None:
    answer = await composer.ask("Write a short email to my manager asking for Monday off.")
    assert answer.expert == "smol"
    assert len(answer.text) > 20
    pids = {e: runner.pid for runner in composer.pool.runners() for e in runner.experts}
    assert len({os.getpid(), pids["smol"], pids["gemma"]}) == 3


async def test_a_question_of_each_skill_goes_to_its_specialist_on_the_engine_of_their_base(
    composer: Composer,
) -> None:
    items = [make_items(skill, "test", 1, 7)[0] for skill in SKILLS.values()]
    answers = [await composer.ask(item.prompt) for item in items]
    assert [answer.expert for answer in answers] == list(SKILLS)
    said = [extract_answer(a.text, i.answer_type) for a, i in zip(answers, items, strict=True)]
    right = [
        text is not None and same_answer(text, item.reference, item.answer_type)
        for text, item in zip(said, items, strict=True)
    ]
    assert sum(right) >= 4
    pids = {e: runner.pid for runner in composer.pool.runners() for e in runner.experts}
    assert len({pids[name] for name in ("smol", *SKILLS)}) == 1


async def test_what_no_expert_looks_good_at_goes_to_the_chat_model(composer: Composer) -> None:
    selection = await composer.route("Hello!")
    assert [choice.expert for choice in selection.choices] == ["smol"]


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


async def test_two_models_of_different_families_write_one_answer(composer: Composer) -> None:
    question = "Convert the date 21 November 2017 into YYYY-MM-DD."
    said = ""
    async for event in composer.stream(question, composition="thoughts"):
        match event:
            case Delta(_, _, text):
                said += text
            case Restart(_, reason):
                raise AssertionError(reason)
            case Answer() as answer:
                assert said == answer.text != ""
                assert answer.expert == "thinkers"
                assert answer.asked == ("thinkers", "smol", "gemma")
                assert answer.details == {"primary": "smol", "peers": ["gemma"]}


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


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [("max_modle_len", 2048, "max_modle_len"), ("max_model_len", 999_999, "999999")],
)
async def test_an_engine_argument_that_vllm_does_not_take_is_named_and_not_tried_twice(
    argument: str, value: int, message: str, starter: Registry
) -> None:
    odd = starter.experts["smol"].model_copy(update={"engine_args": {argument: value}})
    settings = PoolSettings(memory_gib=8, cores=1, warm_spares=0, deadline_s=PATIENCE_S)
    async with Pool(Registry({"smol": odd}, {}, settings, starter.path)) as pool:
        outcome = await one(pool, Request("odd", "smol", user("Hello")))
    assert isinstance(outcome, Failure)
    assert message in outcome.message
    assert (outcome.kind, outcome.attempts) == ("unavailable", 1)


async def test_the_first_expert_is_loaded_into_the_process_that_was_started_ahead(
    small_pool: Pool,
) -> None:
    small_pool.prewarm()
    completion = await done(small_pool, Request("first", "smol", user("Hello"), SHORT))
    assert completion.runner == "warm"


async def test_lora_experts_share_the_engine_of_their_base(small_pool: Pool) -> None:
    experts = ("smol", "first", "second")
    asked = user("Tell me a story.")
    alone = await done(small_pool, Request("alone", "smol", asked, SHORT))
    requests = [Request(f"lora/{name}", name, asked, SHORT) for name in experts]
    texts = {
        outcome.expert: outcome.text
        async for _, outcome in small_pool.run(requests)
        if isinstance(outcome, Completion)
    }
    assert set(texts) == set(experts)
    assert len(set(texts.values())) == 3
    assert experts in [runner.experts for runner in small_pool.runners()]
    # The base beside its adapters speaks as it does alone; bfloat16 may differ after a few tokens.
    assert texts["smol"].split()[:3] == alone.text.split()[:3]


async def test_an_engine_that_reads_a_prompt_in_parts_draws_by_seeds(small_pool: Pool) -> None:
    words = " ".join(f"number {number}" for number in range(60))
    seeded = Sampling(temperature=0.8, max_tokens=8, n=2, seed=5)

    completion = await done(small_pool, Request("parts", "talker", user(words), seeded))

    assert completion.prompt_tokens > 2 * STEP_TOKENS
    assert len(completion.samples) == 2


async def test_a_proposer_whose_process_is_killed_does_not_take_the_answer_with_it(
    small_pool: Pool, small_registry: Registry
) -> None:
    experts = {name: small_registry.experts[name] for name in ("smol", "talker")}
    router = make_router("fixed", experts, {"expert": "smol"}, encoder=default_encoder(cache_dir()))
    panel = Composed("panel", router, ChooseRule(k=2), SynthesisAggregator(by="smol"))
    registry = replace(small_registry, experts=experts)
    composer = Composer(registry, {"panel": panel}, pool=small_pool)
    for expert in experts:
        await done(small_pool, Request(f"up/{expert}", expert, user("Hello"), SHORT))
    victim = next(r.pid for r in small_pool.runners() if "talker" in r.experts)
    assert victim is not None
    asking = asyncio.create_task(composer.ask("Tell me a story.", composition="panel"))
    await computed(victim, 0.2)
    os.kill(victim, signal.SIGKILL)
    answer = await asking
    assert answer.expert == "smol"
    assert answer.text
    assert answer.details["proposers"] == ("smol",)
    assert [(f.expert, f.kind) for f in answer.failures] == [("talker", "unavailable")]
