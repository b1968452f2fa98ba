"""Compositions answer in bulk and one question after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.bulk.window import nothing_known
from composer.composed import Composed
from composer.errors import ConfigError
from composer.types import Query
from eval.live.answered import Answered
from eval.live.bulk import answer_in_bulk
from eval.live.compositions import self_moa, with_compositions
from eval.live.online import WARM_UP, answer_online
from tests.eval.live.conftest import FIXED, KINDS, Quiz, make_quiz, prompt

QUERIES = [case.to_query() for case in make_quiz().split("test")]


def ignore(done: int) -> None: ...


async def in_bulk(quiz: Quiz, name: str, **options: Any) -> list[Answered]:
    async with quiz.composer(**options) as composer:
        return await answer_in_bulk(
            composer, name, QUERIES, quiz.folder / "bulk", nothing_known, ignore
        )


async def online(quiz: Quiz, name: str, **options: Any) -> list[Answered]:
    async with quiz.composer(**options) as composer:
        return await answer_online(composer, name, QUERIES, quiz.folder / "online", ignore)


def untimed(answered: Answered) -> Answered:
    """Without what depends on when outcomes come, or on how many queries are embedded at once."""
    asked, proposed = (tuple(sorted(each)) for each in (answered.asked, answered.proposed))
    quality = {name: round(each or 0.0, 4) for name, each in answered.quality.items()}
    return replace(
        answered,
        asked=asked,
        proposed=proposed,
        quality=quality,
        predicted=round(answered.predicted or 0.0, 4),
        seconds=0,
        ttft_s=None,
    )


@pytest.mark.parametrize("name", ["ada-alone", "routed", "panel", "vote", "described", "shy"])
async def test_in_bulk_and_online_the_same_is_told_but_for_the_times(quiz: Quiz, name: str) -> None:
    bulk, single = await in_bulk(quiz, name), await online(quiz, name)

    assert [answered.id for answered in bulk] == [query.id for query in QUERIES]
    for one, other in zip(bulk, single, strict=True):
        if name == "shy":
            other = replace(other, quality=one.quality, cost_usd=0, prompt_tokens=0)
            other = replace(other, completion_tokens=0)
        assert untimed(one) == untimed(other)


async def test_a_router_and_its_choice_are_told_of_each_query(quiz: Quiz) -> None:
    found = {each.id: each for each in await in_bulk(quiz, "panel")}

    city = found["city-10"]
    assert (city.chosen[0], len(city.chosen), city.samples) == ("bob", 2, 2)
    assert city.proposed == city.panel
    assert set(city.chosen) == set(city.proposed)
    assert city.asked == (*city.proposed, "cas")[: len(city.asked)]
    assert city.expert == "cas"
    assert city.predicted == city.quality["bob"]
    assert city.cost_usd is not None
    assert city.cost_usd > 0


async def test_what_the_router_asks_of_experts_is_in_the_accounts_and_proposes_nothing(
    quiz: Quiz,
) -> None:
    (first, *_) = await in_bulk(quiz, "described")

    assert first.asked == ("cas", *(name for name in first.proposed if name != "cas"))
    assert first.proposed == first.chosen
    assert first.samples == 1
    assert first.prompt_tokens is not None
    assert first.prompt_tokens > 40


async def test_a_query_that_the_router_refuses_says_so_and_chooses_nobody(quiz: Quiz) -> None:
    (first, *_) = await in_bulk(quiz, "shy")

    assert (first.answer, first.expert, first.chosen, first.samples) == (None, None, (), 0)
    assert first.error is not None
    assert first.error.startswith("RoutingError: abstained: the best predicted quality")


@pytest.mark.parametrize("is_online", [False, True])
async def test_whom_the_router_chose_is_told_where_everybody_failed(
    quiz: Quiz, is_online: bool
) -> None:
    answer = online if is_online else in_bulk
    failing = {name: {"failures": {"city 10": "refused"}} for name in ("ada", "bob", "cas")}

    found = {each.id: each for each in await answer(quiz, "routed", experts=failing)}

    assert found["city-10"].answer is None
    assert (found["city-10"].error or "").startswith(
        "AggregationError: no expert answered: bob: as"
    )
    assert found["city-10"].chosen == found["city-10"].panel[:1] == ("bob",)
    assert found["city-10"].cost_usd == (None if is_online else 0)
    assert found["city-11"].answer == prompt("city", 11)


class Clock:
    """Says one second more each time it is asked."""

    def __init__(self) -> None:
        self._times: Iterator[int] = iter(range(1_000_000))

    def __call__(self) -> float:
        return float(next(self._times))


async def timed(quiz: Quiz, name: str) -> Answered:
    async with quiz.composer() as composer:
        (answered,) = await answer_online(
            composer, name, QUERIES[:1], quiz.folder / name, ignore, Clock()
        )
    return answered


async def test_the_first_piece_and_the_whole_answer_are_timed(quiz: Quiz) -> None:
    answered = await timed(quiz, "ada-alone")

    assert (answered.ttft_s, answered.seconds) == (1.0, 2.0)


async def test_what_a_stream_takes_back_is_no_first_piece(quiz: Quiz) -> None:
    compositions = {
        "main": {
            "router": {"name": "fixed", "expert": "cas"},
            "aggregator": {"name": "best"},
        }
    }
    cut = {"cas": {"failures": {"sum": "cut"}, "text": "one two three four"}}
    async with quiz.composer(experts=cut, compositions=compositions) as composer:
        (answered,) = await answer_online(
            composer, "main", QUERIES[:1], quiz.folder / "cut", ignore, Clock()
        )

    assert answered.expert != "cas"
    assert answered.ttft_s is not None
    assert answered.ttft_s > 1.0


async def test_the_query_that_warms_up_is_asked_first_and_does_not_count(quiz: Quiz) -> None:
    found = await online(quiz, "ada-alone")

    assert quiz.asked()[0].startswith(f"{WARM_UP.id}/")
    assert len(quiz.asked()) == 1 + len(QUERIES)
    assert [answered.id for answered in found] == [query.id for query in QUERIES]


async def test_an_expert_that_fails_to_warm_up_is_told_of_by_the_queries(quiz: Quiz) -> None:
    broken = {name: {"load_failure": "it is broken"} for name in ("ada", "bob", "cas")}

    found = await online(quiz, "ada-alone", experts=broken)

    assert all("ada: it is broken" in (answered.error or "") for answered in found)


async def test_a_run_that_was_ended_goes_on_with_the_queries_that_are_left(quiz: Quiz) -> None:
    folder = quiz.folder / "online"

    def stop_after_five(done: int) -> None:
        if done == 5:
            raise asyncio.CancelledError

    async with quiz.composer() as composer:
        with pytest.raises(asyncio.CancelledError):
            await answer_online(composer, "routed", QUERIES, folder, stop_after_five)
    with (folder / "online.jsonl").open("a") as file:
        file.write('{"id": "half a li')
    before = quiz.asked()

    found = await online(quiz, "routed")

    after = [i for i in quiz.asked()[len(before) :] if not i.startswith(WARM_UP.id)]
    assert sorted(i.partition("/")[0] for i in after) == sorted(q.id for q in QUERIES[5:])
    assert [answered.id for answered in found] == [query.id for query in QUERIES]
    assert found == await online(quiz, "routed")


async def test_a_run_that_is_done_asks_nobody(quiz: Quiz) -> None:
    await online(quiz, "routed")
    before = quiz.asked()

    await online(quiz, "routed")

    assert quiz.asked() == before


async def test_another_composition_of_the_same_name_is_refused(quiz: Quiz) -> None:
    await online(quiz, "routed")

    with pytest.raises(ConfigError, match="the composition is another than when the run began"):
        await online(quiz, "routed", compositions={"routed": {"router": FIXED}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema_version": 2, "composition": ""}', "schema version 2, and this program reads 1"),
        ('{"id": "x"}', "online.jsonl:1: is no line of answers; name another folder"),
    ],
)
async def test_lines_of_something_else_are_refused(quiz: Quiz, text: str, said: str) -> None:
    (quiz.folder / "online").mkdir()
    (quiz.folder / "online" / "online.jsonl").write_text(text + "\n")

    with pytest.raises(ConfigError, match=said):
        await online(quiz, "routed")


async def test_texts_may_hold_any_separators_of_lines(quiz: Quiz) -> None:
    odd = "one\u2028two\x85three\x0cfour"

    found = await in_bulk(quiz, "ada-alone", experts={"ada": {"text": odd, "replies": {}}})

    assert {answered.answer for answered in found} == {odd}


async def test_self_moa_draws_all_samples_of_its_expert(quiz: Quiz) -> None:
    async with quiz.composer() as composer:
        composed: Composed = self_moa(composer.registry, "ada", 3)
        own = with_compositions(composer, [composed])
        queries: list[Query] = QUERIES[: len(KINDS)]
        folder = quiz.folder / "moa"
        found = await answer_in_bulk(own, composed.name, queries, folder, nothing_known, ignore)

    assert composed.name == "self-moa-ada-3"
    assert {(each.samples, each.asked, each.chosen) for each in found} == {(3, ("ada",), ("ada",))}


async def test_progress_is_told_in_queries(quiz: Quiz, tmp_path: Path) -> None:
    bulk: list[int] = []
    single: list[int] = []
    async with quiz.composer() as composer:
        folder = tmp_path / "a"
        await answer_in_bulk(composer, "routed", QUERIES, folder, nothing_known, bulk.append)
        await answer_online(composer, "routed", QUERIES, tmp_path / "b", single.append)

    assert bulk == sorted(bulk)
    assert bulk[-1] == len(QUERIES)
    assert single == list(range(len(QUERIES) + 1))
