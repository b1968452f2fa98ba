"""What the readers of typed answers share: where in a text to look, and how a statement begins."""

from __future__ import annotations

import re

MARKS = r"[\s*_`$\"'\\]*"
"""Markdown, LaTeX and quotes that may stand before an answer."""

IS = rf"{MARKS}(?:(?:is|was|(?:will|would|must|should) be)\b|:|=){MARKS}(?::{MARKS})?"
"""Between "the answer" and what it is."""

BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
WRAPPING = " \t*_`$\"'\\()[]{}.,;!"
"""What may stand around an answer that has a line to itself."""

_TYPEWRITTEN = str.maketrans("\u2018\u2019\u201c\u201d\u2212\u2013", "''\"\"--")
_OPENING, _CLOSING = "<think>", "</think>"


def typewritten(text: str) -> str:
    """A text with quotes, minus and dash as a keyboard has them."""
    return text.translate(_TYPEWRITTEN)


def without_reasoning(text: str) -> str:
    """A text without what stands between <think> and </think>.

    Reasoning that was cut off goes on to the end. Where only the end of it is there, the chat
    template opened it: it began with the text.
    """
    *closed, rest = text.split(_CLOSING)
    before = [head for part in closed for head in part.split(_OPENING, 1)[:-1]]
    return "\n".join([*before, rest.split(_OPENING, 1)[0]])


def last(pattern: re.Pattern[str], text: str) -> str | None:
    """The group that took part in a pattern's last match."""
    found = None
    for match in pattern.finditer(text):
        found = match[match.lastindex or 0]
    return found


def lines(text: str) -> list[str]:
    """The lines of a text that are not empty, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]
