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
from composer.types import Message

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def read(line: Any) -> Any:
    return read_line(json.dumps(line).encode())


def test_a_plain_line_has_an_id_and_a_prompt() -> None:
    line = read({"id": "a", "prompt": "Why?", "category": "law", "answer_type": "number"})

    assert line.query.id == "a"
    assert line.query.messages == (Message("user", "Why?"),)
    assert (line.query.category, line.query.answer_type) == ("law", "number")
    assert not line.is_openai


def test_a_plain_line_may_have_a_whole_conversation() -> None:
    assert read({"id": 7, "messages": CHAT}).query.messages[0] == Message("system", "Be brief.")
    assert read({"id": 7, "messages": CHAT}).query.id == "7"


def test_settings_of_an_openai_line_are_not_taken_over_and_said() -> None:
    body = {"model": "gpt", "messages": CHAT, "temperature": 0, "max_tokens": 9}

    line = read({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})

    assert line.is_openai
    assert line.ignored == ("max_tokens", "temperature")


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
        ({"custom_id": "a"}, "has no 'body'"),
        ({"custom_id": "a", "body": {}}, "'messages' is no list of chat messages"),
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
        {"custom_id": str(n), "body": {"messages": CHAT, "max_tokens": 5, "n": 1}} for n in (1, 2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    with Batch(path) as batch:
        assert batch.ignored == {"max_tokens": 2, "n": 2}
