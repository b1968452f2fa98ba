from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.profile import Case, read_cases
from composer.types import Sampling

GOOD: dict[str, Any] = {
    "id": "sum",
    "prompt": "What is 17 + 25?",
    "reference": "42",
    "answer_type": "number",
    "category": "maths",
}
WRONG = {
    "no reference": ({"reference": None}, "'reference' is None; write a text that is not empty"),
    "an empty prompt": ({"prompt": " "}, "'prompt' is ' '; write a text that is not empty"),
    "an empty category": ({"category": ""}, "'category' is ''; write a text that is not empty"),
    "no such type": (
        {"answer_type": "numbr"},
        "'answer_type': no type 'numbr'; did you mean 'number'?",
    ),
    "an unknown key": ({"spilt": "test"}, "unknown key 'spilt'; did you mean 'split'?"),
    "no tokens": ({"max_tokens": 0}, "'max_tokens' is 0; write a whole number, 1 or more"),
    "no number": ({"max_tokens": "few"}, "'max_tokens' is 'few'; write a whole number, 1 or more"),
    "no such answer": (
        {"reference": "many"},
        "'reference': 'many' is no answer of type 'number'; mend it, or the type",
    ),
}


def write(path: Path, *rows: Any) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases.jsonl"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        read_cases(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_cases_are_read_in_their_order_and_train_is_the_split_unless_said(path: Path) -> None:
    write(path, GOOD, "", GOOD | {"id": 7, "category": None, "split": "test"})

    assert read_cases(path) == (
        Case("sum", "What is 17 + 25?", "42", "number", "maths", "train"),
        Case("7", "What is 17 + 25?", "42", "number", None, "test"),
    )


def test_a_case_may_bound_the_tokens_of_its_answers(path: Path) -> None:
    (case,) = read_cases(write(path, GOOD | {"max_tokens": 8}))

    assert case.max_tokens == 8
    assert case.to_query().sampling == Sampling(max_tokens=8)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_a_prompt_comes_back_as_it_was_written(tmp_path_factory: Any, prompt: str) -> None:
    path = tmp_path_factory.mktemp("cases") / "cases.jsonl"

    (case,) = read_cases(write(path, GOOD | {"prompt": prompt}))

    assert case.prompt == prompt


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_named_with_its_number(path: Path, case: str) -> None:
    keys, said = WRONG[case]
    write(path, GOOD, GOOD | {"id": "new"} | keys)

    assert refusal(path).startswith(f"{path}:2: {said}")


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(path: Path, key: str) -> None:
    write(path, {k: v for k, v in GOOD.items() if k != key})

    assert refusal(path) == f"{path}:1: {key!r} is missing; add it"


def test_an_id_given_twice_is_named(path: Path) -> None:
    write(path, GOOD, "", GOOD)

    assert refusal(path) == f"{path}:3: 'id': 'sum' stands there twice; rename one"


@pytest.mark.parametrize("line", ["{", "[]", '"a case"', "caf\udce9"])
def test_a_line_that_is_no_object_is_named(path: Path, line: str) -> None:
    path.write_bytes(line.encode(errors="surrogateescape"))

    said = refusal(path)

    assert said.startswith(f"{path}:1: no JSON object (")
    assert said.endswith("; write one case a line")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_a_case_is_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

    assert refusal(path) == f"{path}: no case; write one JSON object a line"


def test_a_missing_file_is_named(path: Path) -> None:
    said = "cannot be read (No such file or directory); name a file of cases, JSON lines"
    assert refusal(path) == f"{path}: {said}"
