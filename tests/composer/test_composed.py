"""How a query says how its answer is drawn, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.best import BestAggregator
from composer.composed import answer_flow, expected_cost
from composer.errors import AggregationError
from composer.experts import Registry, load_experts
from composer.flow import FlowRun
from composer.protocols import Flow, Tools
from composer.types import (
    Answer,
    Choice,
    Completion,
    Evidence,
    Failure,
    Message,
    Outcome,
    Query,
    Request,
    Sample,
    Sampling,
    Selection,
)
from tests.composer.aggregators.conftest import CharacterTools
from tests.composer.conftest import MakeComposer

TOLD = Sampling(temperature=0.9, max_tokens=7, stop=("END",), seed=3)
QUERY = Query("q", (Message("user", "why?"),), sampling=TOLD)
EXPERTS = ("ann", "ben")
CHOICES = tuple(Choice(name, 0.9, 0.9, lambda: Evidence("made up")) for name in EXPERTS)
SELECTION = Selection("q", "made", CHOICES, EXPERTS, EXPERTS, (0.9, 0.9), "made up")


def run(name: str, **settings: Any) -> FlowRun[Answer]:
    aggregator = make_aggregator(name, settings)
    return FlowRun(answer_flow(aggregator, QUERY, SELECTION, CharacterTools({})))


def said(requests: Sequence[Request], text: str = "because") -> list[Outcome]:
    return [Completion(r.id, r.expert, (Sample(text, "stop", 1),), 1) for r in requests]


def test_the_answer_is_drawn_as_the_query_says() -> None:
    (request,) = run("best").start()

    assert request.sampling == TOLD


def test_whoever_follows_one_that_failed_is_asked_alike() -> None:
    flow = run("best")
    (first,) = flow.start()

    (second,) = flow.deliver([Failure(first.id, "ann", "refused", "no")])

    assert (second.expert, second.sampling) == ("ben", TOLD)


def test_what_the_aggregator_sets_itself_holds() -> None:
    flow = run("self-moa", n=3, temperature=0.2, max_tokens=50)
    drawn = flow.start()

    (written,) = flow.deliver(said(drawn))

    seeds = {r.sampling.seed for r in drawn}
    assert seeds.isdisjoint({TOLD.seed, None})
    assert {replace(r.sampling, seed=None) for r in drawn} == {
        replace(TOLD, n=3, temperature=0.2, max_tokens=50, seed=None)
    }
    assert written.sampling == replace(TOLD, n=1, max_tokens=50)


def test_a_judge_is_asked_as_ever() -> None:
    aggregator = make_aggregator("judge", {"by": "cas"})
    plain = FlowRun(aggregator.combine(QUERY, SELECTION, CharacterTools({})))
    flow = FlowRun(answer_flow(aggregator, QUERY, SELECTION, CharacterTools({})))

    proposed = flow.start()
    judging = flow.deliver(said(proposed))

    assert {r.sampling for r in proposed} == {TOLD}
    assert {r.purpose for r in judging} == {"judge"}
    assert judging == plain.deliver(said(plain.start()))


def test_a_flow_that_ends_without_an_answer_ends_so() -> None:
    flow = run("best")
    (first,) = flow.start()
    (second,) = flow.deliver([Failure(first.id, "ann", "refused", "no")])

    with pytest.raises(AggregationError, match="no expert answered"):
        flow.deliver([Failure(second.id, "ben", "refused", "no")])


def test_a_flow_that_is_dropped_is_closed() -> None:
    closed: list[str] = []

    def asking() -> Flow[Answer]:
        try:
            return (yield from BestAggregator().combine(QUERY, SELECTION, CharacterTools({})))
        finally:
            closed.append("closed")

    class Held(BestAggregator):
        flow = asking()

        def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
            return self.flow

    flow = FlowRun(answer_flow(Held(), QUERY, SELECTION, CharacterTools({})))
    flow.start()

    flow.close()

    assert closed == ["closed"]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One expert that costs a dollar for ten tokens written."""
    price = {"output_usd_per_mtok": 100_000}
    ann = {"engine": "scripted", "engine_args": {}, "price": price, "sampling": {"max_tokens": 50}}
    path = tmp_path / "experts.yaml"
    path.write_text(json.dumps({"experts": {"ann": ann}, "compositions": {}}), "utf-8")
    return load_experts(path)


def test_an_answer_is_expected_to_cost_as_much_as_it_may(registry: Registry) -> None:
    plain = replace(QUERY, sampling=Sampling())

    assert expected_cost(registry, [plain, QUERY], ["ann"], "usd").tolist() == [[5.0], [0.7]]
    assert expected_cost(registry, [plain, QUERY], ["ann"], "tokens").tolist() == [[55.0], [12.0]]


async def test_a_question_that_is_asked_alone_is_answered_as_it_says(
    composer_of: MakeComposer,
) -> None:
    talker = {"engine": "scripted", "engine_args": {"text": "one two three four"}}
    text = {
        "experts": {"ann": talker},
        "compositions": {"auto": {"router": {"name": "fixed", "expert": "ann"}}},
    }
    async with composer_of(json.dumps(text)) as composer:
        answer = await composer.ask(replace(QUERY, sampling=Sampling(max_tokens=2)))

    assert answer.completion_tokens == 2
    assert answer.finish_reason == "length"
