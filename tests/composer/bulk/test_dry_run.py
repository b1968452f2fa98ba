"""A batch is routed and planned, and nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.bulk import BatchProgress
from composer.bulk.dry_run import DryRun, dry_run
from composer.bulk.progress import StageRecord
from composer.composed import Composed
from composer.errors import ConfigError
from composer.protocols import Flow
from composer.types import Annotation, Ask, Message, Query, Request
from tests.composer.bulk.conftest import EXPERTS, ONE, PANEL, VOTE, Bulk, registry

ABSENT = {"load_failure": "nobody may ask it"}
NOBODY: Mapping[str, Mapping[str, Any]] = dict.fromkeys(EXPERTS, ABSENT)
"""Experts that fail if they are loaded at all."""
FIRST = {"router": {"name": "fixed", "expert": "ann"}}


async def plan(bulk: Bulk, text: str, path: Path, **options: Any) -> DryRun:
    async with bulk.composer(text) as composer:
        composed: Composed = composer.compositions["main"]
        if router := options.pop("router", None):
            composed = replace(composed, router=router)
        return await dry_run(
            path, composed, composer.registry, composer.pool, models=bulk.folder, **options
        )


def one_round(**options: Any) -> str:
    return registry({"main": FIRST}, **options)


async def test_no_engine_is_loaded_and_no_file_is_left(bulk: Bulk) -> None:
    path = bulk.questions(3)

    async with bulk.composer(registry({"main": VOTE}, experts=NOBODY)) as composer:
        composed = composer.compositions["main"]
        planned = await dry_run(
            path, composed, composer.registry, composer.pool, models=bulk.folder
        )
        assert composer.pool.runners() == []

    assert planned.plan.estimate.loads == len(EXPERTS)
    assert sorted(p.name for p in bulk.folder.iterdir()) == ["experts.yaml", "in.jsonl"]


async def test_experts_are_chosen_as_they_are_when_the_batch_runs(bulk: Bulk) -> None:
    text, path = registry({"main": ONE}), bulk.questions(30)

    planned = await plan(bulk, text, path)
    await bulk.run(text, path)

    answered = [result["expert"] for result in bulk.results()]
    assert dict(planned.chosen) == {name: answered.count(name) for name in set(answered)}
    assert list(planned.chosen.values()) == sorted(planned.chosen.values(), reverse=True)


@pytest.mark.parametrize("composition", [ONE, VOTE])
async def test_it_is_the_plan_by_which_the_batch_begins(
    bulk: Bulk, composition: dict[str, Any]
) -> None:
    text, path = registry({"main": composition}), bulk.questions(30)
    told: list[BatchProgress] = []

    planned = await plan(bulk, text, path)
    await bulk.run(text, path, on_progress=told.append)

    first = next(progress for progress in told if progress.phase == "answer")
    assert planned.plan.estimate.seconds == pytest.approx(first.left_s)
    assert planned.plan.estimate.loads == first.loads_left == len(EXPERTS)


async def test_a_synthesis_takes_as_many_loads_and_requests_as_it_is_planned_to(
    bulk: Bulk,
) -> None:
    text, path = registry({"main": PANEL}), bulk.questions(20)

    planned = await plan(bulk, text, path)
    report = await bulk.run(text, path)

    assert planned.plan.estimate.loads == report.loads == len(EXPERTS)
    assert sum(load.requests for load in planned.asked.values()) == len(bulk.asked()) == 60
    assert planned.experts[planned.plan.stages[-1].engine] == ("ben",)
    assert "one request a query to ben" in " ".join(planned.notes)


async def test_who_aggregates_reads_the_question_and_what_was_proposed(bulk: Bulk) -> None:
    two = {**PANEL, "aggregator": {"name": "synthesis", "by": "ben", "max_tokens": 50}}
    router = {"name": "fixed", "expert": "ann"}
    text = registry({"main": {**two, "router": router, "choose": {"k": 1}}})

    planned = await plan(bulk, text, bulk.write([{"id": "q", "prompt": "four"}]))

    assert planned.asked["ann"].prompt_tokens == 5
    assert planned.asked["ann"].completion_tokens == 50
    assert planned.asked["ben"].prompt_tokens == 5 + 50


async def test_each_stage_of_a_cascade_is_counted_once(bulk: Bulk) -> None:
    names = ["ann", "ben", "cas"]
    settings = {"experts": names, "confidence": "votes", "thresholds": [0.9, 0.9]}
    cascade = {"router": {"name": "random"}, "aggregator": {"name": "cascade", **settings}}

    planned = await plan(bulk, registry({"main": cascade}), bulk.questions(7))

    assert {name: load.requests for name, load in planned.asked.items()} == dict.fromkeys(names, 7)
    assert "later stages (ben, cas) are counted for every query" in " ".join(planned.notes)


async def test_samples_and_texts_to_be_scored_are_counted_as_such(bulk: Bulk) -> None:
    ensemble = {"name": "ensemble", "answer_type": "text", "options": ["yes", "no"]}
    text = registry({"main": {"router": {"name": "random"}, "aggregator": ensemble}})

    planned = await plan(bulk, text, bulk.questions(4))

    loads = list(planned.asked.values())
    assert sum(load.requests for load in loads) == 8
    assert sum(load.completion_tokens for load in loads) == 0


async def test_queries_that_nobody_is_to_answer_ask_nothing(bulk: Bulk) -> None:
    picky = {"router": {"name": "random"}, "choose": {"threshold": 1, "abstain": True}}

    planned = await plan(bulk, registry({"main": picky}), bulk.questions(5))

    assert (planned.n_queries, planned.n_refused) == (5, 5)
    assert (planned.plan.stages, dict(planned.asked)) == ((), {})


async def test_queries_too_long_for_every_context_fail_before_they_ask(bulk: Bulk) -> None:
    narrow = {name: {"context": 20} for name in EXPERTS}
    lines = [{"id": "short", "prompt": "why?"}, {"id": "long", "prompt": "why " * 50}]

    planned = await plan(bulk, one_round(experts=narrow), bulk.write(lines))

    assert planned.n_failed == 1
    assert planned.asked["ann"].requests == 1


async def test_lines_that_cannot_be_read_and_settings_that_do_not_count_are_told(
    bulk: Bulk,
) -> None:
    body = {"messages": [{"role": "user", "content": "why?"}], "logprobs": True}
    path = bulk.write([{"custom_id": "q", "body": body}, "{"])

    planned = await plan(bulk, one_round(), path)

    assert [reject.number for reject in planned.rejects] == [2]
    assert dict(planned.ignored) == {"logprobs": 1}


async def test_an_expert_larger_than_memory_is_refused_with_how_much(bulk: Bulk) -> None:
    text = one_round(experts={"ann": {"memory_gib": 3}})

    with pytest.raises(ConfigError, match=r"'ann' takes 3\.00 GiB, 1\.00 GiB more than"):
        await plan(bulk, text, bulk.questions(1))


async def test_one_that_is_never_asked_may_be(bulk: Bulk) -> None:
    text = one_round(experts={"dan": {"memory_gib": 3}})

    assert (await plan(bulk, text, bulk.questions(1))).plan.estimate.loads == 1


def unpulled(bulk: Bulk, expert: str) -> str:
    entry = {"engine": "vllm", "source": "nobody/has-this-model"}
    text = json.loads(registry({"main": FIRST}))
    return json.dumps(text | {"experts": text["experts"] | {expert: entry}})


async def test_a_model_that_is_not_on_this_disk_has_to_be_pulled_first(bulk: Bulk) -> None:
    with pytest.raises(ConfigError, match="`composer experts pull ann` brings"):
        await plan(bulk, unpulled(bulk, "ann"), bulk.questions(1))


async def test_one_of_an_expert_that_is_not_asked_need_not_be_there(bulk: Bulk) -> None:
    planned = await plan(bulk, unpulled(bulk, "dan"), bulk.questions(1))

    assert set(planned.asked) == {"ann"}


async def test_an_endpoint_costs_dollars_and_takes_no_slot(bulk: Bulk) -> None:
    far = {
        "engine": "openai",
        "base_url": "http://localhost:9/v1",
        "model": "m",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        "sampling": {"max_tokens": 10},
    }
    text = json.loads(registry({"main": FIRST}))
    text["experts"]["ann"] = far

    planned = await plan(bulk, json.dumps(text), bulk.write([{"id": "q", "prompt": "four"}]))

    assert planned.endpoints == ("ann",)
    assert planned.plan.stages == ()
    assert planned.usd == pytest.approx((5 * 1 + 10 * 2) / 1e6)


async def test_a_gguf_file_is_not_converted_for_a_plan(bulk: Bulk) -> None:
    (bulk.folder / "ann.gguf").write_bytes(b"GGUF")
    text = unpulled(bulk, "ann").replace("nobody/has-this-model", str(bulk.folder / "ann.gguf"))

    with pytest.raises(ConfigError, match=r"ann\.gguf is not converted"):
        await plan(bulk, text, bulk.questions(1))


async def test_what_was_measured_takes_the_place_of_guesses(bulk: Bulk) -> None:
    text, path = one_round(), bulk.questions(3)
    guessed = await plan(bulk, text, path)
    (key,) = guessed.experts
    record = StageRecord(key, ("ann",), 10.0, 5.0, 25.0, 3, 30)
    other = replace(record, engine="someone-else", completion_tokens=9000)

    planned = await plan(bulk, text, path, measured=[record, other])

    (stage,) = planned.plan.stages
    read_s = planned.asked["ann"].prompt_tokens / 2000
    assert stage.end_s - stage.ready_s == pytest.approx(3 * 256 / 3 + read_s)
    assert any("tokens/s are guessed" in note for note in guessed.notes)
    assert not any("tokens/s are guessed" in note for note in planned.notes)
    assert any("guessed to take 10 s" in note and "ann" in note for note in planned.notes)


class AskingRouter:
    """Says that it would ask ann about each query, and scores without."""

    name = "asking"
    needs = frozenset[Any]()

    def __init__(self, scores: Any) -> None:
        self.score = scores

    def annotate(self, query: Query) -> Flow[Annotation] | None:
        yield Ask((Request(f"{query.id}/annotate", "ann", (Message("user", "which skills?"),)),))
        raise AssertionError("nobody answers in a plan")


async def test_a_router_that_asks_experts_routes_without_and_it_is_said(bulk: Bulk) -> None:
    text, path = one_round(), bulk.questions(2)
    async with bulk.composer(text) as composer:
        scores = composer.compositions["main"].router.score

    planned = await plan(bulk, text, path, router=AskingRouter(scores))

    assert planned.asked["ann"].requests == 2
    assert planned.notes[0].startswith("router 'asking' asks an expert about each query first")


async def test_a_router_that_needs_likelihoods_is_refused(bulk: Bulk) -> None:
    class Likelihoods(AskingRouter):
        name = "likelihood"
        needs = frozenset({"likelihoods"})

    def score(queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> None:
        raise AssertionError("it is not asked to")

    with pytest.raises(ConfigError, match="'likelihood' asks experts how likely"):
        await plan(bulk, one_round(), bulk.questions(1), router=Likelihoods(score))


async def test_a_text_is_as_long_as_its_line_lets_it_become(bulk: Bulk) -> None:
    body = {"messages": [{"role": "user", "content": "four"}], "max_tokens": 9}

    planned = await plan(bulk, one_round(), bulk.write([{"custom_id": "q", "body": body}]))

    assert planned.asked["ann"].completion_tokens == 9
