from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.backends.sse import SseParser

END = st.sampled_from(["\n", "\r\n", "\r"])
LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """A stream of events with comments and other fields in between, and the data it holds."""
    text = draw(st.sampled_from(["", "\ufeff"]))
    expected: list[str] = []
    for data in draw(st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=4)):
        if draw(st.booleans()):
            text += f": {draw(LINE)}" + draw(END)
        for line in data:
            text += f"data: {line}" + draw(END)
            if draw(st.booleans()):
                text += "id: 7" + draw(END)
        text += draw(END)
        # "\r" before "\n" is one end of line, so an event has to be ended by another.
        text += "\r\n"
        expected.append("\n".join(data))
    return text.encode(), expected


@given(streams(), st.lists(st.integers(0, 300), max_size=20))
def test_any_chunking_of_the_bytes_gives_the_same_events(
    stream: tuple[bytes, list[str]], cuts: list[int]
) -> None:
    body, expected = stream
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parser = SseParser()
    found = [
        data for start, end in itertools.pairwise(bounds) for data in parser.feed(body[start:end])
    ]
    assert found == expected


@given(st.binary(max_size=80))
def test_arbitrary_bytes_give_the_same_events_one_by_one_as_at_once(body: bytes) -> None:
    parser = SseParser()
    one_by_one = [data for byte in body for data in parser.feed(bytes([byte]))]
    assert one_by_one == SseParser().feed(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b": keep-alive\n\n\n\ndata: a\n\n", ["a"]),
        (b"event: x\nid: 1\nretry: 5\n\n", []),
        (b"event: x\ndata: a\n\n", ["a"]),
        (b"data: a\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", ["a", "b"]),
    ],
)
def test_lines_are_read_as_the_standard_says(body: bytes, expected: list[str]) -> None:
    assert SseParser().feed(body) == expected
