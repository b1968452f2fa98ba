"""How long one question waits online: by the composer, by the pool alone, and by a bare engine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from composer.assembly import compose
from composer.backends.sources import cache_dir
from composer.backends.vllm_memory import vllm_engine_args
from composer.experts import AggregatorConfig, Composition, Registry, load_experts
from composer.orchestrator import Composer
from composer.tokenizer import ChatTokenizer
from composer.types import DEFAULT_SAMPLING, Message, Query, Request, Sampling
from eval.bench.models import BareEngine
from eval.bench.result import BenchResult, load_average, note
from eval.bench.turns import (
    Timed,
    Way,
    added_ms,
    latency_figures,
    take_turns,
    time_stream,
    unequal_lengths,
)
from eval.starter.items import make_items
from eval.starter.skills import SKILLS
from routers.encoder import CachedEncoder, SentenceEncoder

EXPERTS = Path(__file__).parents[2] / "experts.yaml"
COMPOSITION = "auto"
QUERIES, WARM_UPS = 60, 5
SAMPLING = Sampling(temperature=0.0, max_tokens=32)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the expert that the router chooses for it."""

    prompt: str
    expert: str

    @property
    def messages(self) -> tuple[Message, ...]:
        """What each way is given."""
        return (Message("user", self.prompt),)


def bench_latency() -> BenchResult:
    """60 questions one after the other, each by three ways in turn; medians and 99th percentiles.

    `routing_adds` is the composer's time to the first text less the bare engine's, in the median
    question; `pool_adds` is the pool's less the bare engine's, and `router_adds` the composer's
    less the pool's.
    """
    return asyncio.run(_latency())


async def _latency() -> BenchResult:
    before, cores = load_average(), os.cpu_count() or 1
    registry = resident(load_experts(EXPERTS), cores)
    encoder = SentenceEncoder(hashes=cache_dir() / "embeddings")
    scout = compose(registry, encoder=encoder)
    asked = warm_first(await route_all(scout, prompts(QUERIES + len(registry.experts) + WARM_UPS)))
    experts = Counter(one.expert for one in asked)
    note(f"{len(asked)} questions, routed to {dict(experts)}")
    with ExitStack() as stack:
        # Embeddings that were kept would spare the router what a new question costs it.
        kept = Path(stack.enter_context(TemporaryDirectory(prefix="composer-latency-")))
        async with compose(registry, encoder=CachedEncoder(encoder, kept)) as composer:
            bare = await _start_bare(stack, composer, asked, cores)
            ways = make_ways(composer, asked, bare)
            n_warm_ups = max(WARM_UPS, len(experts))
            taken = await take_turns(ways, n=QUERIES, n_warm_ups=n_warm_ups)
    measured = asked[n_warm_ups : n_warm_ups + QUERIES]
    return BenchResult(
        "latency",
        {
            **latency_figures(taken),
            "routing_adds_ms_p50": added_ms(taken["composer"], taken["bare"]),
            "pool_adds_ms_p50": added_ms(taken["pool"], taken["bare"]),
            "router_adds_ms_p50": added_ms(taken["composer"], taken["pool"]),
            "n": QUERIES,
        },
        {
            "router": scout.compositions[COMPOSITION].router.name,
            "experts": dict(Counter(one.expert for one in measured)),
            "queries": QUERIES,
            "warm_ups": n_warm_ups,
            "max_tokens": SAMPLING.max_tokens,
            "threads": cores,
            "unequal_lengths": unequal_lengths(taken),
            "engines": "resident, the same arguments for all ways; without a prefix cache, since "
            "each question is asked three times",
            "composer": "Composer.stream: the question is embedded and routed, its expert asked",
            "pool": "Pool.stream of the same expert",
            "bare": "vLLM's own LLMEngine, stepped in a process of its own, timed in there, with "
            "the pool's way of adapters; the prompt's tokens are made before the clock starts",
            "order": "one at a time, and whoever is first moves on with each question",
            "load_average": [before, load_average()],
        },
    )


def resident(registry: Registry, cores: int) -> Registry:
    """The experts with all cores for one engine at a time, under one composition.

    It has the router of `auto`, and the one expert chosen answers.
    """
    experts = {
        name: expert
        if expert.base is not None
        else expert.model_copy(
            update={"engine_args": {**expert.engine_args, "enable_prefix_caching": False}}
        )
        for name, expert in registry.experts.items()
    }
    alone = Composition(
        router=registry.compositions[COMPOSITION].router,
        aggregator=AggregatorConfig.model_validate({"name": "best"}),
    )
    settings = {"cores": cores, "busy_engines": 1, "warm_spares": 0}
    return replace(
        registry,
        experts=experts,
        compositions={COMPOSITION: alone},
        pool=registry.pool.model_copy(update=settings),
    )


def prompts(n: int) -> list[str]:
    """Test questions of all skills in turn, none twice."""
    each = -(-n // len(SKILLS))
    by_skill = [make_items(skill, "test", each) for skill in SKILLS.values()]
    return [item.prompt for item in chain.from_iterable(zip(*by_skill, strict=True))][:n]


async def route_all(composer: Composer, texts: Sequence[str]) -> list[Asked]:
    """Questions with the experts that are chosen for them; none is asked."""
    selections = [await composer.route(text, composition=COMPOSITION) for text in texts]
    return [
        Asked(text, selection.choices[0].expert)
        for text, selection in zip(texts, selections, strict=True)
    ]


def warm_first(asked: Sequence[Asked]) -> list[Asked]:
    """The same questions, a first one of each expert before all others."""
    firsts = {one.expert: one for one in reversed(asked)}
    first = set(firsts.values())
    return [one for one in asked if one in first] + [one for one in asked if one not in first]


def make_ways(composer: Composer, asked: Sequence[Asked], bare: Way) -> dict[str, Way]:
    """The ways by which a question is answered, all by the same expert."""

    async def by_composer(number: int) -> Timed:
        query = Query(f"composer{number}", asked[number].messages, sampling=SAMPLING)
        events = composer.stream(query, composition=COMPOSITION)
        return await time_stream(events, asked[number].expert)

    async def by_pool(number: int) -> Timed:
        one = asked[number]
        request = Request(f"pool{number}", one.expert, one.messages, SAMPLING, final=True)
        return await time_stream(composer.pool.stream(request), one.expert)

    return {"composer": by_composer, "pool": by_pool, "bare": bare}


async def _start_bare(
    stack: ExitStack, composer: Composer, asked: Sequence[Asked], threads: int
) -> Way:
    """Start a bare engine for each that the pool will have; what asks them."""
    specs = {name: await composer.pool.resolve(name) for name in {one.expert for one in asked}}
    engines: dict[str, BareEngine] = {}
    tokenizers: dict[str, ChatTokenizer] = {}
    for spec in specs.values():
        if spec.key not in engines:
            note(f"starting a bare engine for {', '.join(spec.experts)}")
            path, arguments = Path(spec.model_path or ""), vllm_engine_args(spec, "cpu")
            engine = BareEngine(path, threads=threads, engine_args=arguments, dense_lora=True)
            engines[spec.key] = await asyncio.to_thread(stack.enter_context, engine)
            tokenizers[spec.key] = ChatTokenizer.load(path, spec.chat_template)

    async def by_bare(number: int) -> Timed:
        one, spec = asked[number], specs[asked[number].expert]
        own = composer.registry.experts[one.expert].sampling.to_sampling()
        said = SAMPLING.over(own).over(DEFAULT_SAMPLING)
        adapter = spec.adapters.get(one.expert)
        prompt = tokenizers[spec.key].encode(one.messages)
        return Timed(*await asyncio.to_thread(engines[spec.key].stream, prompt, said, adapter))

    return by_bare
