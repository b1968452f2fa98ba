"""One question through router, choice, aggregator and pool, on scripted experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from composer.errors import AggregationError, ConfigError, RoutingError
from composer.types import Answer, Delta, Message, Query, Restart

if TYPE_CHECKING:
    from composer.orchestrator import Composer
    from tests.composer.conftest import MakeComposer

PANEL = """
experts:
  mathematician:
    engine: scripted
    description: numbers, sums and equations
    examples: ["What is two plus two?", "Solve the equation for x"]
    price: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
    engine_args: {text: "the answer is 4", replies: {"reference": "all agree on 4"}}
  cook:
    engine: scripted
    description: food and recipes
    examples: ["How long do I boil an egg?", "A recipe for bread"]
    engine_args: {text: "boil it"}
  broken:
    engine: scripted
    description: nothing works
    engine_args: {text: "one two three four", failures: {"": cut}}
  dumb: {engine: scripted, engine_args: {text: "", failures: {"": refused}}}
compositions:
  auto: {router: {name: retrieval}, choose: {k: 1}, aggregator: {name: best}}
  panel:
    router: {name: retrieval}
    choose: {k: 2}
    aggregator: {name: synthesis, by: mathematician}
  ballot: {router: {name: retrieval}, choose: {k: 2}, aggregator: {name: vote, answer_type: number}}
  risky: {router: {name: fixed, expert: broken}, aggregator: {name: best}}
  careful: {router: {name: fixed, expert: dumb}, choose: {k: 1}, aggregator: {name: best}}
  picky: {router: {name: retrieval}, choose: {threshold: 1, abstain: true}}
"""


@pytest.fixture
def composer(composer_of: MakeComposer) -> Composer:
    """A mathematician, a cook, one that breaks off half-way and one that refuses."""
    return composer_of(PANEL)


async def collect(composer: Composer, question: str, composition: str) -> tuple[str, Answer]:
    """What is left of a stream once restarts are obeyed, and its answer."""
    said = ""
    async for event in composer.stream(question, composition=composition):
        match event:
            case Delta(_, _, text):
                said += text
            case Restart():
                said = ""
            case Answer():
                return said, event
    raise AssertionError("no answer")


async def test_the_question_goes_to_the_expert_whose_examples_are_nearest(
    composer: Composer,
) -> None:
    async with composer:
        sums = await composer.ask("What is two plus three?")
        eggs = await composer.ask("How long do I boil two eggs?")
    assert (sums.expert, eggs.expert) == ("mathematician", "cook")
    assert sums.selection is not None
    assert "What is two plus two?" in sums.selection.choices[0].evidence.reason


async def test_an_answer_accounts_for_tokens_cost_and_time(composer: Composer) -> None:
    async with composer:
        answer = await composer.ask("What is two plus two?")
    assert answer.prompt_tokens == 5
    assert answer.completion_tokens == 4
    assert answer.cost_usd == pytest.approx((5 * 1.0 + 4 * 2.0) / 1e6)
    names = [span.name for span in answer.trace]
    assert names[:2] == ["answer", "route"]
    assert "ask" in names
    whole = answer.trace[0]
    assert all(whole.start_s <= s.start_s <= s.end_s <= whole.end_s for s in answer.trace[2:3])


@pytest.mark.parametrize("composition", ["auto", "panel", "ballot", "risky", "careful", "cook"])
async def test_what_is_streamed_adds_up_to_the_answer(composer: Composer, composition: str) -> None:
    async with composer:
        said, answer = await collect(composer, "What is two plus two?", composition)
    assert said == answer.text


async def test_an_expert_is_asked_by_its_own_name_without_a_router(composer: Composer) -> None:
    async with composer:
        answer = await composer.ask("What is two plus two?", composition="cook")
    assert answer.text == "boil it"


async def test_a_failed_expert_is_reported_and_the_next_of_the_ranking_answers(
    composer: Composer,
) -> None:
    async with composer:
        said, answer = await collect(composer, "anything", "risky")
    assert answer.expert != "broken"
    assert [f.expert for f in answer.failures] == ["broken"]
    assert answer.failures[0].attempts == 2
    assert said == answer.text


async def test_two_experts_and_an_aggregator_leave_all_their_words_in_the_answer(
    composer: Composer,
) -> None:
    async with composer:
        answer = await composer.ask("What is two plus two?", composition="panel")
    assert answer.aggregator == "synthesis"
    assert answer.expert == "mathematician"
    assert len(answer.completions) == 3
    assert answer.details["proposers"] == ("mathematician", "cook")


async def test_a_vote_reads_typed_answers_and_says_who_abstained(composer: Composer) -> None:
    async with composer:
        answer = await composer.ask("What is two plus two?", composition="ballot")
    assert answer.text == "4"
    assert answer.details["abstained"] == ("cook",)


async def test_when_every_expert_fails_the_error_names_each(composer_of: MakeComposer) -> None:
    text = """
experts:
  one: {engine: scripted, engine_args: {load_failure: "no disk"}}
  two: {engine: scripted, engine_args: {text: x, failures: {"": refused}}}
compositions:
  auto: {router: {name: random}, choose: {k: 1}, aggregator: {name: best}}
"""
    async with composer_of(text) as composer:
        with pytest.raises(AggregationError, match=r"one: .*no disk") as caught:
            await composer.ask("hello")
    assert "two: " in str(caught.value)


async def test_routing_asks_no_expert(composer: Composer) -> None:
    async with composer:
        selection = await composer.route("What is two plus two?", composition="panel")
        assert composer.pool.runners() == []
    assert [choice.expert for choice in selection.choices] == ["mathematician", "cook"]
    assert set(selection.ranking) == {"mathematician", "cook", "broken", "dumb"}


async def test_a_query_that_is_refused_is_an_error_and_asks_nobody(composer: Composer) -> None:
    async with composer:
        with pytest.raises(RoutingError, match=r"^abstained: the best predicted quality"):
            await composer.ask("How is bread baked?", composition="picky")
        assert composer.pool.runners() == []
        answer = await composer.ask("How long do I boil an egg?", composition="picky")
    assert answer.expert == "cook"


async def test_a_route_that_is_refused_says_why_and_what_was_predicted(composer: Composer) -> None:
    async with composer:
        selection = await composer.route("How is bread baked?", composition="picky")
    assert (selection.choices, selection.ranking) == ((), ())
    assert selection.reason.startswith("abstained: the best predicted quality")
    assert len(selection.quality) == len(selection.experts)


async def test_messages_in_openai_form_are_taken(composer: Composer) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "What is two plus two?"},
    ]
    async with composer:
        answer = await composer.ask(messages)
    assert answer.expert == "mathematician"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ("  \n", "the prompt is empty"),
        ([{"role": "robot", "content": "x"}], "not a chat message"),
        ([{"role": "system", "content": "x"}], "the prompt is empty"),
    ],
)
async def test_a_prompt_that_is_none_is_refused(
    composer: Composer, prompt: str | list[dict[str, str]], message: str
) -> None:
    async with composer:
        with pytest.raises(ConfigError, match=message):
            await composer.ask(prompt)


async def test_an_unknown_composition_is_refused_with_what_was_meant(composer: Composer) -> None:
    async with composer:
        with pytest.raises(ConfigError, match="did you mean 'panel'"):
            await composer.ask("hello", composition="pannel")


async def test_a_query_keeps_its_id_through_requests_and_answer(composer: Composer) -> None:
    query = Query("q42", (Message("user", "What is two plus two?"),))
    async with composer:
        answer = await composer.ask(query)
    assert answer.query_id == "q42"
    assert all(c.request_id.startswith("q42/") for c in answer.completions)


async def test_closing_a_stream_half_way_frees_its_expert(composer_of: MakeComposer) -> None:
    text = """
experts:
  slow: {engine: scripted, engine_args: {text: "a b c d e f g h", token_s: 0.05}}
compositions:
  auto: {router: {name: fixed, expert: slow}, aggregator: {name: best}}
"""
    async with composer_of(text) as composer:
        stream = composer.stream("hello")
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()
        answer = await composer.ask("hello")
    assert answer.text == "a b c d e f g h"


async def test_a_prompt_too_long_for_every_expert_names_each_length_and_limit(
    composer_of: MakeComposer,
) -> None:
    text = """
experts:
  one: {engine: scripted, engine_args: {text: x, context: 20}}
  two: {engine: scripted, engine_args: {text: y, context: 40}}
compositions:
  auto: {router: {name: fixed, expert: one}, aggregator: {name: best}}
"""
    async with composer_of(text) as composer:
        with pytest.raises(AggregationError) as caught:
            await composer.ask("word " * 100)
        shorter = await composer.ask("word " * 20)
    assert "one: the prompt has 129 tokens and the context of 'one' is 20" in str(caught.value)
    assert "two: the prompt has 129 tokens and the context of 'two' is 40" in str(caught.value)
    assert shorter.expert == "two"
    assert [failure.kind for failure in shorter.failures] == ["too_long"]
