import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.assembly import compose
from composer.experts import Registry, load_experts
from composer.orchestrator import Composer
from composer.types import Completion, Delta, Failure, Sample
from eval.bench import BENCHES
from eval.bench.bare import stream_one
from eval.bench.latency import (
    EXPERTS,
    Asked,
    make_ways,
    prompts,
    resident,
    route_all,
    warm_first,
)
from eval.bench.turns import (
    Timed,
    added_ms,
    latency_figures,
    take_turns,
    time_stream,
    unequal_lengths,
)
from eval.starter.items import make_items
from eval.starter.skills import SKILLS
from routers.encoder import HashingEncoder

POEM, SUM = "a poem about the rain in spring", "the sum of two large numbers"
SCRIPTED = {
    "experts": {
        "poet": {
            "engine": "scripted",
            "examples": ["a poem about the snow", "a poem about spring"],
            "engine_args": {"text": "Drip drop, drip drop."},
        },
        "clerk": {
            "engine": "scripted",
            "examples": ["the sum of numbers", "the sum of two numbers"],
            "engine_args": {"text": "42", "replies": {"nothing": ""}},
        },
    },
    "compositions": {
        "auto": {
            "router": {"name": "retrieval"},
            "choose": {"k": 2},
            "aggregator": {"name": "synthesis", "by": "clerk"},
        }
    },
}


def timed(first_s: float, total_s: float = 1.0, tokens: int = 9) -> Timed:
    return Timed(first_s, total_s, tokens)


async def events_of(*events: object) -> AsyncIterator[object]:
    for event in events:
        yield event


def completion(text: str, expert: str = "poet") -> Completion:
    return Completion("r", expert, (Sample(text, "stop", 3),), 5)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A poet and a clerk, who always work together."""
    path = tmp_path / "experts.yaml"
    path.write_text(json.dumps(SCRIPTED), "utf-8")
    return load_experts(path)


@pytest.fixture
def composer(registry: Registry, tmp_path: Path) -> Composer:
    """One of them answers."""
    alone = resident(registry, cores=1)
    # A scripted engine has no prefix cache to be switched off.
    return compose(
        replace(alone, experts=registry.experts), cache=tmp_path, encoder=HashingEncoder()
    )


def test_the_middle_and_the_slow_end_of_each_way_are_told_in_milliseconds() -> None:
    taken = {"bare": [timed(number / 1000, number / 100) for number in range(101)]}

    assert latency_figures(taken) == pytest.approx(
        {
            "bare_ttft_ms_p50": 50.0,
            "bare_ttft_ms_p99": 99.0,
            "bare_total_ms_p50": 500.0,
            "bare_total_ms_p99": 990.0,
        }
    )


def test_what_is_added_is_the_median_over_the_questions_of_what_each_waits_longer() -> None:
    more = [timed(0.010), timed(0.025), timed(0.900)]
    less = [timed(0.009), timed(0.020), timed(0.002)]

    assert added_ms(more, less) == pytest.approx(5.0)


def test_answers_of_other_lengths_are_counted_by_question() -> None:
    taken = {
        "composer": [timed(0, tokens=3), timed(0, tokens=4), timed(0, tokens=5)],
        "bare": [timed(0, tokens=3), timed(0, tokens=5), timed(0, tokens=6)],
    }

    assert unequal_lengths(taken) == 2


async def test_each_way_is_asked_each_question_and_whoever_is_first_moves_on() -> None:
    asked: list[tuple[str, int]] = []

    def way(name: str) -> Callable[[int], Any]:
        async def ask(number: int) -> Timed:
            asked.append((name, number))
            return timed(number)

        return ask

    taken = await take_turns({n: way(n) for n in "abc"}, n=2, n_warm_ups=2, pause_s=0)

    orders = ["abc", "bca", "cab", "abc"]
    assert asked == [(name, number) for number, order in enumerate(orders) for name in order]
    assert {name: [t.first_s for t in some] for name, some in taken.items()} == {
        name: [2, 3] for name in "abc"
    }


async def test_the_first_text_comes_before_the_end() -> None:
    drops = [Delta("r", "poet", "Drip "), Delta("r", "poet", "drop.")]
    now = iter([10.0, 10.25, 11.0])

    found = await time_stream(
        events_of(*drops, completion("Drip drop.")), "poet", clock=lambda: next(now)
    )

    assert found == Timed(first_s=0.25, total_s=1.0, tokens=3)


async def test_the_first_text_of_an_empty_answer_is_its_end() -> None:
    found = await time_stream(events_of(completion("")), "poet")

    assert found.first_s == found.total_s


@pytest.mark.parametrize(
    "last", [Failure("r", "poet", "refused", "no"), completion("Hm", expert="clerk")]
)
async def test_another_end_than_an_answer_of_the_expert_stops_the_benchmark(last: object) -> None:
    with pytest.raises(RuntimeError, match="poet was to answer"):
        await time_stream(events_of(Delta("r", "poet", "Hm"), last), "poet")


async def test_the_composer_and_the_pool_have_the_routed_expert_answer_alone(
    composer: Composer,
) -> None:
    numbers: list[int] = []

    async def bare(number: int) -> Timed:
        numbers.append(number)
        return timed(0.5)

    async with composer:
        asked = await route_all(composer, [POEM, SUM])
        ways = make_ways(composer, asked, bare)
        taken = await take_turns(ways, n=2, n_warm_ups=0, pause_s=0)

    assert [one.expert for one in asked] == ["poet", "clerk"]
    assert list(taken) == ["composer", "pool", "bare"]
    assert [[t.tokens for t in taken[name]] for name in ("composer", "pool")] == [[4, 1], [4, 1]]
    assert numbers == [0, 1]


async def test_routing_ahead_loads_nobody(composer: Composer) -> None:
    async with composer:
        await route_all(composer, [POEM])

        assert composer.pool.n_loads == 0


def test_a_first_question_of_each_expert_is_among_the_warm_ups() -> None:
    a0, b0, a1, b1, c0 = (Asked(text, text[0]) for text in ("a0", "b0", "a1", "b1", "c0"))

    assert warm_first([a0, a1, b0, b1, c0]) == [a0, b0, c0, a1, b1]


def test_questions_are_of_all_skills_in_turn_and_of_their_test_split() -> None:
    asked = prompts(2 * len(SKILLS) + 1)

    skills = [make_items(skill, "test", 3) for skill in SKILLS.values()]
    assert asked[: len(SKILLS) + 1] == [
        *(items[0].prompt for items in skills),
        skills[0][1].prompt,
    ]
    assert len(asked) == len(set(asked)) == 2 * len(SKILLS) + 1


def test_the_shipped_engines_have_all_cores_and_keep_no_prompts() -> None:
    shipped = load_experts(EXPERTS)

    found = resident(shipped, cores=3)

    assert (found.pool.cores, found.pool.busy_engines, found.pool.warm_spares) == (3, 1, 0)
    assert list(found.compositions) == ["auto"]
    assert found.compositions["auto"].router == shipped.compositions["auto"].router
    for name, expert in shipped.experts.items():
        args = dict(shipped.engine_spec(name).engine_args)
        assert found.engine_spec(name).engine_args == args | {"enable_prefix_caching": False}
        assert (found.experts[name] == expert) == (expert.base is not None)


class Stepped:
    """Stands in for vLLM's engine: says one piece a step, which takes a quarter of a second."""

    def __init__(self, *pieces: str) -> None:
        self.added: list[tuple[Any, ...]] = []
        self.now_s = 0.0
        self._said = pieces or ("", "Drip ", "drop.")
        self._pieces: list[str] = []

    def add_request(self, *request: Any, lora_request: Any) -> None:
        self.added.append((*request, lora_request))
        self._pieces = list(self._said)

    def has_unfinished_requests(self) -> bool:
        return bool(self._pieces)

    def step(self) -> list[Any]:
        self.now_s += 0.25
        part = type("Part", (), {"text": self._pieces.pop(0), "token_ids": [7]})
        return [type("Output", (), {"outputs": [part]})]


def test_a_bare_engine_is_stepped_through_one_prompt_and_its_first_text_timed() -> None:
    engine = Stepped()

    found = stream_one(engine, "r1", [1, 2], "params", "adapter", clock=lambda: engine.now_s)

    assert engine.added == [("r1", {"prompt_token_ids": [1, 2]}, "params", "adapter")]
    assert found == {"first_s": 0.5, "total_s": 0.75, "tokens": 3}


def test_the_first_text_of_an_empty_bare_answer_is_its_end() -> None:
    engine = Stepped("", "")

    found = stream_one(engine, "r1", [1, 2], "params", None, clock=lambda: engine.now_s)

    assert found == {"first_s": 0.5, "total_s": 0.5, "tokens": 2}


def test_the_benchmark_has_a_name() -> None:
    assert "latency" in BENCHES
