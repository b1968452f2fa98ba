from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.backends.chat_completions import (
    ChatReply,
    ChatStream,
    chat_body,
    read_completion,
)
from composer.backends.http_errors import ChatError
from composer.types import Message, Request, Sampling

SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16, stop=(), n=1)
ASKED = Request("q/a", "remote", (Message("user", "12345678"),), SAMPLING)


def choice(text: str | None, *, index: int = 0, finish_reason: str | None = "stop") -> Any:
    return {"index": index, "message": {"content": text}, "finish_reason": finish_reason}


def read(reply: Any, request: Request = ASKED) -> Any:
    return read_completion(ChatReply.read(json.dumps(reply)), request)


def test_what_is_left_to_the_server_is_left_out_of_the_body() -> None:
    assert chat_body(ASKED, "m", stream=False) == {
        "model": "m",
        "messages": [{"role": "user", "content": "12345678"}],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 16,
    }


def test_everything_that_is_asked_for_is_in_the_body() -> None:
    request = replace(
        ASKED,
        sampling=replace(SAMPLING, stop=("\n",), seed=7, n=3),
        logprobs=2,
        schema={"type": "object"},
    )
    body = chat_body(request, "m", stream=True)
    assert (body["stop"], body["seed"], body["n"]) == (["\n"], 7, 3)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["response_format"]["json_schema"]["strict"] is True
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_tokens_are_estimated_where_the_server_does_not_count_them() -> None:
    completion = read({"choices": [choice("12345")]})
    assert completion.prompt_tokens == 2 + 4
    assert completion.completion_tokens == 2


@given(st.lists(st.text(max_size=9), min_size=1, max_size=5), st.integers(0, 1000))
def test_the_shares_of_the_samples_add_up_to_what_the_server_counted(
    texts: list[str], total: int
) -> None:
    completion = read(
        {
            "choices": [choice(text, index=i) for i, text in enumerate(texts)],
            "usage": {"prompt_tokens": 3, "completion_tokens": total},
        },
        replace(ASKED, sampling=replace(SAMPLING, n=len(texts))),
    )
    counts = [sample.completion_tokens for sample in completion.samples]
    assert sum(counts) == total
    assert min(counts) >= 0


def test_samples_come_in_the_order_of_their_numbers() -> None:
    completion = read(
        {"choices": [choice("b", index=1), choice("a", index=0)]},
        replace(ASKED, sampling=replace(SAMPLING, n=2)),
    )
    assert [sample.text for sample in completion.samples] == ["a", "b"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ([], "no chat completion"),
        ({"choices": "none"}, "choices"),
        ({"object": "list"}, "0 of the 1 samples"),
        ({"choices": [choice(None)]}, "no text"),
        ({"choices": [choice("a", finish_reason=None)]}, "no finish_reason"),
    ],
)
def test_a_reply_without_an_answer_is_bad_output(reply: Any, words: str) -> None:
    with pytest.raises(ChatError) as caught:
        read(reply)
    assert caught.value.kind == "bad_output"
    assert words in caught.value.message


def test_an_answer_used_up_by_hidden_reasoning_says_what_to_raise() -> None:
    with pytest.raises(ChatError) as caught:
        read({"choices": [choice(None, finish_reason="length")]})
    assert caught.value.remedy == "raise max_tokens"


def test_a_model_that_refuses_is_a_refusal() -> None:
    with pytest.raises(ChatError) as caught:
        read({"choices": [{"message": {"refusal": "i will not"}, "finish_reason": "stop"}]})
    assert (caught.value.kind, caught.value.fault) == ("refused", "request")


def test_an_error_in_a_successful_reply_counts_as_one() -> None:
    with pytest.raises(ChatError) as caught:
        read({"error": {"message": "overloaded", "code": 503}})
    assert (caught.value.kind, caught.value.fault) == ("unavailable", "endpoint")


def test_the_chunks_of_several_samples_are_kept_apart() -> None:
    stream = ChatStream(2)
    pieces = [
        stream.feed(json.dumps({"choices": [{"index": i, "delta": {"content": text}}]}))
        for i, text in [(0, "a"), (1, "x"), (0, "b"), (1, "y")]
    ]
    for i in (0, 1):
        assert not stream.is_whole
        stream.feed(json.dumps({"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]}))
    assert stream.is_whole
    completion = read_completion(stream.reply(), replace(ASKED, sampling=replace(SAMPLING, n=2)))
    assert pieces == ["a", "", "b", ""]
    assert [sample.text for sample in completion.samples] == ["ab", "xy"]


def test_a_sample_that_has_not_ended_is_not_whole_though_the_server_says_it_is_done() -> None:
    stream = ChatStream(1)
    stream.feed(json.dumps({"choices": [{"delta": {"content": "a"}}]}))
    stream.feed("[DONE]")
    assert stream.is_done
    assert not stream.is_whole
