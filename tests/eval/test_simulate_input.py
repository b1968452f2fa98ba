"""What the simulator reads: traces, figures of experts, sizes of memory; each error is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from composer.errors import ConfigError
from eval.simulate.hardware import make_hardware, read_figures
from eval.simulate.trace_file import read_trace

GOOD = '{"query": "q1", "expert": "b"}\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace_is_read_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = (
        '{"query": "q1", "expert": "b", "prompt_tokens": 7}\n'
        "\n"
        '{"query": "q2", "expert": "a", "completion_tokens": 9}\n'
        '{"query": "q1", "expert": "a", "stage": 2}\n'
    )
    trace = read_trace(write(tmp_path, text), prompt_tokens=3, completion_tokens=4)
    assert trace.experts == ("a", "b")
    assert list(trace.query) == [0, 1, 0]
    assert list(trace.expert) == [1, 0, 0]
    assert list(trace.stage) == [0, 0, 1]
    assert trace.n_stages == 2
    assert list(trace.prompt_tokens) == [7, 3, 3]
    assert list(trace.completion_tokens) == [4, 9, 4]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: not JSON ("),
        ("[1]", ":2: not an object; write {'query': ..., 'expert': ...}"),
        ('{"query": "q", "expret": "a"}', ":2: no key 'expret'; did you mean 'expert'?"),
        ('{"query": "q"}', ":2: 'expert' is None; give it a name"),
        ('{"query": 7, "expert": "a"}', ":2: 'query' is 7; give it a name"),
        (
            '{"query": "q", "expert": "a", "stage": -1}',
            ":2: 'stage' is -1; give it a whole number from 0 to 2147483647",
        ),
        ('{"query": "q", "expert": "a", "stage": 2147483648}', ":2: 'stage' is 2147483648; give"),
        (
            '{"query": "q", "expert": "a", "prompt_tokens": 1.5}',
            ":2: 'prompt_tokens' is 1.5; give it a whole number from 0",
        ),
        (
            '{"query": "q", "expert": "a", "completion_tokens": true}',
            ":2: 'completion_tokens' is True; give it a whole number from 0",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_trace(write(tmp_path, GOOD + line + "\n"))
    assert "\n" not in str(caught.value)


def test_stages_of_a_query_that_are_out_of_order_are_named_by_the_line(tmp_path: Path) -> None:
    text = '{"query": "q", "expert": "a", "stage": 1}\n' + GOOD + '{"query": "q", "expert": "b"}\n'
    with pytest.raises(ConfigError, match=r":3: query 'q' was at stage 1 before; put a query's"):
        read_trace(write(tmp_path, text))


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"an empty trace; give it a line for each request$"):
        read_trace(write(tmp_path, "\n\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read '.*none.jsonl'"):
        read_trace(tmp_path / "none.jsonl")
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"query": "\xe9", "expert": "a"}\n')
    with pytest.raises(ConfigError, match=r"^cannot read '.*latin.jsonl'"):
        read_trace(latin)


def test_figures_of_experts_replace_what_holds_for_all() -> None:
    figures = {"a": {"memory_gib": 1.5, "load_s": 3.0}, "b": {"memory_gib": 2.0}}
    hardware = make_hardware(("a", "b"), memory="2.5GiB", figures=figures, load_s=9.0)
    assert hardware.capacity == int(2.5 * (1 << 30))
    assert list(hardware.size) == [int(1.5 * (1 << 30)), 2 << 30]
    assert list(hardware.load_s) == [3.0, 9.0]


@pytest.mark.parametrize("memory", ["", "2.5", "4 GB", "-1", "many"])
def test_a_size_of_memory_that_is_none_is_refused(memory: str) -> None:
    with pytest.raises(ConfigError, match=r"; give it in experts \('4'\) or bytes \('24GiB'\)$"):
        make_hardware(("a",), memory=memory)


def test_memory_below_the_largest_expert_is_refused_with_the_numbers() -> None:
    figures = {"a": {"memory_gib": 2.0}, "b": {"memory_gib": 8.5}}
    with pytest.raises(ConfigError, match=r"^memory is '8GiB' and expert 'b' takes 8.5 GiB; raise"):
        make_hardware(("a", "b"), memory="8GiB", figures=figures)
    with pytest.raises(ConfigError, match=r"^memory is '0' and expert 'a' takes one; raise"):
        make_hardware(("a", "b"), memory="0")


def test_memory_in_bytes_needs_the_size_of_every_expert() -> None:
    with pytest.raises(
        ConfigError, match=r"the size of expert 'b' is unknown; give its memory_gib"
    ):
        make_hardware(("a", "b"), memory="8GiB", figures={"a": {"memory_gib": 1.0}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"load_s": -1.0},
        {"switch_s": -0.5},
        {"prompt_tokens_per_s": 0.0},
        {"completion_tokens_per_s": 0.0},
    ],
)
def test_a_machine_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"^a rate or the slots are 0, or a time is below it; "):
        make_hardware(("a",), **wrong)  # pyright: ignore[reportArgumentType]


def test_figures_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text('{"a": {"memory_gib": 2, "load_s": 4.5}, "b": {}}', encoding="utf-8")
    assert read_figures(path) == {"a": {"memory_gib": 2, "load_s": 4.5}, "b": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read "),
        ("[]", "not an object; write {expert: {'memory_gib': ...}}"),
        ('{"a": 3}', "expert 'a' is 3; give it figures by name"),
        ('{"a": {"memory": 3}}', "expert 'a': no key 'memory'; did you mean 'memory_gib'?"),
        ('{"a": {"load_s": "3"}}', "expert 'a': 'load_s' is '3'; give it a number above 0"),
        ('{"a": {"memory_gib": 0}}', "expert 'a': 'memory_gib' is 0; give it a number above 0"),
        ('{"a": {"load_s": Infinity}}', "'load_s' is inf; give it a number above 0"),
    ],
)
def test_wrong_figures_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_figures(path)
