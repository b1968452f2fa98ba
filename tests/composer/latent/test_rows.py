from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.latent.rows import Row, read_rows, rows_digest
from composer.types import Message


def write(path: Path, *lines: object) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text, "utf-8")
    return path


def test_rows_are_read_with_where_they_stand(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.jsonl",
        {"prompt": "What is 1 + 1?", "answer": "2"},
        "",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "And 2 + 2?"},
            ],
            "reference": "4",
            "split": "test",
            "category": "sums",
        },
    )

    rows = read_rows(path)

    assert rows == (
        Row((Message("user", "What is 1 + 1?"),), "2", where=f"{path}:1"),
        Row(
            (Message("system", "Be brief."), Message("user", "And 2 + 2?")),
            "4",
            split="test",
            where=f"{path}:3",
        ),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object; write one row a line"),
        ({"prompt": "a"}, "'answer' is missing"),
        ({"prompt": "a", "answer": " "}, "'answer' is missing, empty"),
        ({"prompt": "a", "answer": 3}, "'answer' is missing, empty or no text"),
        ({"answer": "a"}, "either 'prompt' or 'messages'"),
        ({"prompt": "a", "messages": [], "answer": "a"}, "either 'prompt' or 'messages'"),
        ({"prompt": "  ", "answer": "a"}, "'prompt' is '  '; write a text"),
        ({"messages": [], "answer": "a"}, "'messages' is no list of messages"),
        ({"messages": [{"role": "me", "content": "b"}], "answer": "a"}, "'messages' holds .*'me'"),
        ({"messages": [{"role": "user"}], "answer": "a"}, "'messages' holds"),
        (
            {"messages": [{"role": "assistant", "content": "b"}], "answer": "a"},
            "ends with one of 'assistant'",
        ),
        ({"prompt": "a", "answer": "b", "split": 1}, "'split' is 1; write a text"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: object, said: str) -> None:
    path = write(tmp_path / "train.jsonl", {"prompt": "a", "answer": "b"}, line)

    with pytest.raises(ConfigError, match=rf"train.jsonl:2: .*{said}"):
        read_rows(path)


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b'{"prompt": "\xff", "answer": "a"}')

    with pytest.raises(ConfigError, match=r"train.jsonl:1: no JSON"):
        read_rows(tmp_path / "train.jsonl")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no row; write one JSON object a line"):
        read_rows(write(tmp_path / "train.jsonl", "", " "))
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        read_rows(tmp_path / "nowhere.jsonl")


def test_the_digest_is_of_what_rows_say_and_not_of_where_they_stand(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "train.jsonl", {"prompt": "a", "answer": "b"}))

    assert rows_digest([row]) == rows_digest([replace(row, where="elsewhere")])
    assert rows_digest([row]) != rows_digest([replace(row, answer="c")])
    assert rows_digest([row]) != rows_digest([row, row])
