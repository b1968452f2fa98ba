"""What of the experts' words reaches another expert's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.aggregators.references import (
    ANSWER_TOKENS,
    SHORTEST_REFERENCE,
    fit_references,
    prompt_budget,
    with_references,
    without_thinking,
)
from composer.prompts import inject_references
from composer.types import Failure, Message, Request, Sampling
from tests.composer.aggregators.conftest import CharacterTools
from tests.composer.aggregators.saying import references

MESSAGES = (Message("user", "What is 6 x 7?"),)
FRAME = len(inject_references(MESSAGES, ["a"])[0].content) + len(MESSAGES[0].content) - 1
"""Tokens of a prompt with one empty reference; a token is a character here."""


def size(messages: Sequence[Message]) -> int:
    return CharacterTools().count("ann", messages)


def request(max_tokens: int | None = None) -> Request:
    return Request("q1/aggregate/ann", "ann", MESSAGES, Sampling(max_tokens=max_tokens))


def tools(**limits: int) -> CharacterTools:
    return CharacterTools(limits)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("42", "42"),
        ("  42\n", "42"),
        ("<think>6 x 7</think>\n\n42", "42"),
        ("6 x 7 is</think>42", "42"),
        ("<THINK>a</THINK>42", "42"),
        ("<thinking>a</thinking>42", "42"),
        ("<think>a</think>b<think>c</think>42", "42"),
        ("<think>6 x 7, so", ""),
        ("<think>a</think>42<think>or", "42"),
        ("42 <thinker>", "42 <thinker>"),
        ("I think 42", "I think 42"),
        ("", ""),
    ],
)
def test_reasoning_between_think_tags_is_dropped(text: str, rest: str) -> None:
    assert without_thinking(text) == rest


@given(st.lists(st.sampled_from(["<think>", "</think>", "x", "\n", "<", ">"])).map("".join))
def test_without_its_reasoning_a_text_holds_no_think_tag(text: str) -> None:
    rest = without_thinking(text)

    assert "<think>" not in rest
    assert "</think>" not in rest
    assert without_thinking(rest) == rest


@pytest.mark.parametrize(
    ("limits", "max_reference_tokens", "answer_tokens", "budget"),
    [
        ({}, None, None, None),
        ({"ann": 1000}, None, None, 1000 - ANSWER_TOKENS),
        ({"ann": 1000}, None, 100, 900),
        ({"ann": 50}, None, 100, 0),
        ({}, 500, None, 514),
        ({"ann": 700}, 500, None, 444),
        ({"ben": 700}, None, None, None),
    ],
)
def test_a_prompt_may_fill_the_context_but_for_the_answer(
    limits: Mapping[str, int],
    max_reference_tokens: int | None,
    answer_tokens: int | None,
    budget: int | None,
) -> None:
    found = prompt_budget(
        "ann", MESSAGES, CharacterTools(limits), max_reference_tokens, answer_tokens=answer_tokens
    )

    assert found == budget


def test_references_that_fit_are_whole() -> None:
    fitted = fit_references(MESSAGES, ["a" * 900, "b"], "ann", FRAME + 2000, tools())

    assert fitted == inject_references(MESSAGES, ["a" * 900, "b"])


@given(st.lists(st.integers(0, 500), min_size=1, max_size=5), st.integers(0, 3000))
def test_cut_references_fit_and_would_not_if_they_were_longer(
    lengths: list[int], budget: int
) -> None:
    texts = ["x" * length for length in lengths]

    fitted = fit_references(MESSAGES, texts, "ann", budget, tools())

    shortest = [text if len(text) < SHORTEST_REFERENCE else "x" * 43 for text in texts]
    if fitted is None:
        assert size(inject_references(MESSAGES, shortest)) > budget - 3 * len(texts)
    else:
        assert size(fitted) <= budget
        assert fitted == inject_references(MESSAGES, texts) or budget - size(fitted) <= 4 * len(
            texts
        )


def test_short_references_stay_whole_where_long_ones_are_cut() -> None:
    fitted = fit_references(MESSAGES, ["a" * 900, "short"], "ann", FRAME + 400, tools())

    assert fitted is not None
    long, short = references(Request("r", "ann", fitted))
    assert short == "short"
    assert long.endswith("...")
    assert len(long) < 400


def test_another_prompt_may_hold_the_references() -> None:
    def inject(messages: Sequence[Message], texts: Sequence[str]) -> tuple[Message, ...]:
        return (*messages, *(Message("assistant", text) for text in texts))

    fitted = fit_references(MESSAGES, ["a" * 90, "b"], "ann", 60, tools(), inject)

    assert fitted is not None
    assert [m.role for m in fitted] == ["user", "assistant", "assistant"]
    assert size(fitted) <= 60


def test_the_request_gets_the_references_and_stays_as_it_was() -> None:
    prepared = with_references(request(), [["41", "42"]], tools())

    assert isinstance(prepared, Request)
    assert prepared.id == "q1/aggregate/ann"
    assert references(prepared) == ["41", "42"]


def test_what_the_answer_may_have_is_left_free() -> None:
    layers = [["a" * 900]]

    prepared = with_references(request(max_tokens=300), layers, tools(ann=1000))

    assert isinstance(prepared, Request)
    assert 695 <= size(prepared.messages) <= 700


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (2000, ["old", "mid", "new"]),
        (FRAME + ANSWER_TOKENS + 120, ["mid", "new"]),
        (FRAME + ANSWER_TOKENS + 60, ["new"]),
    ],
)
def test_of_several_layers_the_oldest_is_dropped_first(limit: int, kept: list[str]) -> None:
    layers = [["old" + "." * 30], ["mid" + "." * 30], ["new" + "." * 30]]

    prepared = with_references(request(), layers, tools(ann=limit))

    assert isinstance(prepared, Request)
    assert [reference[:3] for reference in references(prepared)] == kept


def test_only_the_last_layer_is_cut() -> None:
    layers = [["old"], ["new" * 300]]

    prepared = with_references(request(), layers, tools(ann=FRAME + ANSWER_TOKENS + 200))

    assert isinstance(prepared, Request)
    (cut,) = references(prepared)
    assert cut.startswith("newnew")
    assert cut.endswith("...")


def test_references_without_room_are_a_failure_with_the_numbers() -> None:
    failure = with_references(request(), [["a" * 90, "b" * 90]], tools(ann=300))

    assert isinstance(failure, Failure)
    assert (failure.request_id, failure.kind) == ("q1/aggregate/ann", "too_long")
    assert failure.message == (
        "2 references do not fit into 44 prompt tokens of 'ann'; name an expert with a longer "
        "context, or let fewer propose"
    )
