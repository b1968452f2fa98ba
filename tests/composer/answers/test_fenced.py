"""JSON values and code, and where Markdown says that they begin and end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.answers import canonical_answer, extract_answer

JSON: list[tuple[str, str | None]] = [
    ('{"b": 1, "a": [1, 2]}', '{"a":[1,2],"b":1}'),
    (' {"a": {"d": 1, "c": null}}\n', '{"a":{"c":null,"d":1}}'),
    ("[true, false]", "[true,false]"),
    ("null", "null"),
    ('"Paris"', '"Paris"'),
    ("42", "42"),
    ("1.0", "1"),
    ("-0.0", "0"),
    ("1e3", "1000"),
    ("0.5", "0.5"),
    ("1e22", "1e+22"),
    ("12345678901234567890", "12345678901234567890"),
    ('"\\u00e9"', '"é"'),
    ('"“quoted”"', '"“quoted”"'),
    ('{"a": 1, "a": 2}', '{"a":2}'),
    ('Here it is:\n```json\n{"a": 1}\n```\nDone.', '{"a":1}'),
    ('```\n{"a": 1}\n```', '{"a":1}'),
    ('~~~json\n{"a": 1}\n~~~', '{"a":1}'),
    ('```json\n{"a": 1}\n```\nrather\n```json\n{"a": 2}\n```', '{"a":2}'),
    ('1. so:\n   ```json\n   {"a": 1}\n   ```', '{"a":1}'),
    ('```json\r\n{"a": 1}\r\n```\r\n', '{"a":1}'),
    ('```json\n{"a": 1}\n```\n```text\nno JSON\n```', None),
    ('```json\n{"a": 1}', None),
    ('```json\n{"a": 1}\n```\n```json\n{"a": ', None),
    ('Here it is: {"a": 1}', None),
    ("{'a': 1}", None),
    ('{"a": 1,}', None),
    ('{"a": 1} {"b": 2}', None),
    ("NaN", None),
    ("[Infinity]", None),
    ("1e999", None),
    ("[-1e999]", None),
    ('"\\ud800"', None),
    ("1" * 5000, None),
    ("[" * 100_000, None),
    ("", None),
    ("none", None),
]

CODE: list[tuple[str, str | None]] = [
    ("```python\nx = 1\n```", "x = 1"),
    ("```\nx = 1\n```", "x = 1"),
    ("~~~ python\nx = 1\n~~~", "x = 1"),
    (
        "So:\n\n```python\n\n\ndef f():  \n    return 1\t\n\n```\nThat is all.",
        "def f():\n    return 1",
    ),
    ("```\n  indented\n```", "  indented"),
    ("```\na\n\n\nb\n```", "a\n\n\nb"),
    ("```\none\n```\nand\n```\ntwo\n```", "two"),
    ("- a list:\n  ```python\n  if x:\n      y\n z\n  ```", "if x:\n    y\nz"),
    ("````markdown\n```\nx\n```\n````", "```\nx\n```"),
    ("```\n~~~\n```", "~~~"),
    ("```\nx = '```'\n```", "x = '```'"),
    ("```python\r\nx = 1\r\n```\r\n", "x = 1"),
    ("```\nx = 1\n`````", "x = 1"),
    ("```\nquote = “a”\n```", "quote = “a”"),
    ("```\nx\n```\n```\n```", None),
    ("```\n \n\n```", None),
    ("```\nx = 1", None),
    ("```\nx = 1\n```\nbetter:\n```\ny =", None),
    ("```\nx\n~~~", None),
    ("````\nx\n```", None),
    ("x = 1", None),
    ("Use `x = 1` here.", None),
    ("```x = 1```", None),
    ("``\nx\n``", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "value"), JSON)
def test_a_text_gives_this_json_value_or_none(text: str, value: str | None) -> None:
    assert extract_answer(text, "json") == value


@pytest.mark.parametrize(("text", "code"), CODE)
def test_a_text_gives_this_code_or_none(text: str, code: str | None) -> None:
    assert extract_answer(text, "code") == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1  \n\n", "x = 1"),
        ("\n```python\nx = 1\n```\n", "x = 1"),
        ("```python\nx = 1", None),
        (" \n", None),
    ],
)
def test_what_is_known_to_be_code_needs_no_fence(answer: str, code: str | None) -> None:
    assert canonical_answer(answer, "code") == code


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Halves of surrogate pairs are left out, as JSON that cannot be written is refused.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_json_keeps_its_value_however_it_is_written(value: object, indent: int | None) -> None:
    written = json.dumps(value, indent=indent)

    alone, fenced = (extract_answer(t, "json") for t in (written, f"```json\n{written}\n```"))

    assert alone == fenced
    assert json.loads(alone or "") == value
