"""Which lines of a batch file can be answered, and why the others cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.bulk.lines import Batch, read_line
from composer.types import Message, Sampling

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def read(line: Any) -> Any:
    return read_line(json.dumps(line).encode())


def test_a_plain_line_has_an_id_and_a_prompt() -> None:
    line = read({"id": "a", "prompt": "Why?", "category": "law", "answer_type": "number"})

    assert line.query.id == "a"
    assert line.query.messages == (Message("user", "Why?"),)
    assert (line.query.category, line.query.answer_type) == ("law", "number")
    assert not line.is_openai


def test_a_plain_line_may_say_how_its_answer_is_drawn() -> None:
    line = read({"id": "q", "prompt": "Why?", "sampling": {"max_tokens": 3, "stop": ["\n"]}})

    assert line.query.sampling == Sampling(max_tokens=3, stop=("\n",))


def test_a_plain_line_may_have_a_whole_conversation() -> None:
    assert read({"id": 7, "messages": CHAT}).query.messages[0] == Message("system", "Be brief.")
    assert read({"id": 7, "messages": CHAT}).query.id == "7"


def openai(**settings: Any) -> dict[str, Any]:
    body = {"model": "gpt", "messages": CHAT} | settings
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_an_openai_line_says_how_its_answer_is_drawn() -> None:
    line = read(openai(temperature=0, top_p=0.5, max_tokens=9, stop="END", seed=3))

    assert line.is_openai
    assert line.query.sampling == Sampling(0.0, 0.5, 9, ("END",), 3)
    assert line.ignored == ()


def test_several_texts_may_end_an_answer_and_the_newer_limit_holds() -> None:
    line = read(openai(stop=["a", "b"], max_tokens=9, max_completion_tokens=7))

    assert line.query.sampling == Sampling(max_tokens=7, stop=("a", "b"))


def test_what_is_null_is_not_said() -> None:
    line = read(openai(temperature=None, max_tokens=None, stop=None, tools=None))

    assert line.query.sampling == Sampling()
    assert line.ignored == ()


def test_settings_that_are_not_taken_over_are_said_unless_they_ask_for_nothing() -> None:
    line = read(openai(n=2, logprobs=True, tools=[], stream=False, frequency_penalty=0))

    assert line.ignored == ("logprobs", "n")
    assert line.query.sampling == Sampling()
    assert read(openai(n=1)).ignored == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ([], "is no JSON object"),
        ({"prompt": "Why?"}, "has neither 'id' nor 'custom_id'"),
        ({"id": "", "prompt": "Why?"}, "'id' is no text"),
        ({"id": True, "prompt": "Why?"}, "'id' is no text"),
        ({"id": "a"}, "needs either 'prompt' or 'messages'"),
        ({"id": "a", "prompt": "Why?", "messages": CHAT}, "needs either 'prompt' or 'messages'"),
        ({"id": "a", "prompt": 3}, "'prompt' is no text"),
        ({"id": "a", "prompt": " "}, "the prompt is empty; write a question"),
        ({"id": "a", "messages": "Why?"}, "'messages' is no list of chat messages"),
        ({"id": "a", "messages": ["Why?"]}, "'messages' is no list of chat messages"),
        ({"id": "a", "messages": [{"role": "user"}]}, "not a chat message"),
        ({"id": "a", "prompt": "Why?", "category": 3}, "'category' is no text"),
        ({"id": "a", "prompt": "Why?", "answer_type": "x"}, "'answer_type' is 'x'; choose from"),
        ({"id": "a", "prompt": "Why?", "sampling": 3}, "'sampling' is no JSON object"),
        ({"id": "a", "prompt": "Why?", "sampling": {"n": 2}}, "'sampling' has 'n'; choose from"),
        (
            {"id": "a", "prompt": "Why?", "sampling": {"max_tokens": 0}},
            "'max_tokens' must be at least 1",
        ),
        ({"custom_id": "a"}, "has no 'body'"),
        ({"custom_id": "a", "body": {}}, "'messages' is no list of chat messages"),
        (openai(temperature="hot"), "'temperature' must be a number"),
        (openai(temperature=-1), "'temperature' must be at least 0"),
        (openai(max_tokens=0), "'max_tokens' must be at least 1"),
        (openai(max_completion_tokens=2.5), "'max_tokens' must be a whole number"),
        (openai(stop=[""]), "'stop.0' must not be empty"),
        ({"custom_id": "a", "url": "/v1/embeddings", "body": {}}, "only POST /v1/chat/completions"),
    ],
)
def test_a_line_that_cannot_be_answered_says_why(line: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}") as caught:
        read(line)

    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_json_says_where() -> None:
    with pytest.raises(ValueError, match="is not JSON at character 2"):
        read_line(b"{x}")


def test_a_line_that_is_not_utf_8_is_no_line() -> None:
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_line(b'{"id": "\xff"}')


@given(st.lists(st.sampled_from(["good", "bad", "blank", "again"]), max_size=12))
def test_every_line_is_a_row_a_reject_or_blank(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str]
) -> None:
    text = {"bad": "{", "blank": "  ", "again": json.dumps({"id": "first", "prompt": "Why?"})}
    lines = [json.dumps({"id": "first", "prompt": "Why?"})]
    lines += [
        text.get(kind) or json.dumps({"id": f"q{n}", "prompt": "ä" * n + "?"})
        for n, kind in enumerate(kinds)
    ]
    path = tmp_path_factory.mktemp("batch") / "in.jsonl"
    path.write_text("\n".join(lines), "utf-8")

    with Batch(path) as batch:
        ids = [batch.query(row).id for row in range(len(batch))]
        bad = [n for n, kind in enumerate(kinds, start=2) if kind in ("bad", "again")]
        assert ids == ["first", *(f"q{n}" for n, kind in enumerate(kinds) if kind == "good")]
        assert [reject.number for reject in batch.rejects] == bad


def test_a_batch_counts_the_settings_that_it_ignores(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        {"custom_id": str(n), "body": {"messages": CHAT, "logprobs": True, "n": 3}} for n in (1, 2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    with Batch(path) as batch:
        assert batch.ignored == {"logprobs": 2, "n": 2}
