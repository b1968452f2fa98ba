"""Texts cut to one short line, for evidence."""

from __future__ import annotations


def shortened(text: str, width: int) -> str:
    """One line of at most so many characters; not by words, which not all languages part."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
