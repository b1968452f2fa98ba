"""Answers for machines: JSON and code, of which Markdown says where they begin and end."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_OPENING = re.compile(r"([ \t]*)(`{3,}(?=[^`]*\Z)|~{3,}).*")


def last_block(text: str) -> str | None:
    """The lines within the last fenced block, less the indent of its fence; None: there is none.

    A block that is cut off counts as the last one, and gives None.
    """
    found: str | None = None
    indent, fence = 0, ""
    block: list[str] = []
    for line in text.split("\n"):
        bare = line.strip()
        if not fence:
            if match := _OPENING.fullmatch(line):
                indent, fence, block = len(match[1]), match[2], []
        elif len(bare) >= len(fence) and not bare.strip(fence[0]):
            found, fence = "\n".join(block), ""
        else:
            block.append(line[min(indent, len(line) - len(line.lstrip(" \t"))) :])
    return None if fence else found


def read_json(text: str) -> str | None:
    """A value with sorted keys and no spaces; None: nothing parses.

    A float without a fraction is written as an integer where that loses nothing, so that 1.0 is 1.
    NaN, infinities and halves of surrogate pairs are no JSON that others could read.
    """
    value = _parsed(text)
    if value is None:
        value = _parsed(last_block(text) or "")
    return value


def _parsed(text: str) -> str | None:
    try:
        value: Any = json.loads(text, parse_float=_plain, parse_constant=_refuse)
        written = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        written.encode()
    except (ValueError, RecursionError):
        return None
    return written


def _plain(written: str) -> float:
    value = float(written)
    if math.isinf(value):
        _refuse(written)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _refuse(written: str) -> NoReturn:
    raise ValueError(written)


def read_code(text: str) -> str | None:
    """The code of a text's last fenced block; unfenced code is not told from prose: None."""
    block = last_block(text)
    return None if block is None else _tidied(block)


def canonical_code(code: str) -> str | None:
    """Code without trailing spaces, and without empty lines before and after it; None: no code.

    Indentation, comments and names count: whether two programs do the same is for tests to say.

    Args:
        code: Known to be code; it may have a fence around it.
    """
    if _OPENING.match(code.lstrip("\n").split("\n", 1)[0]):
        code = last_block(code) or ""
    return _tidied(code)


def _tidied(code: str) -> str | None:
    kept = [line.rstrip() for line in code.split("\n")]
    filled = [i for i, line in enumerate(kept) if line]
    return "\n".join(kept[filled[0] : filled[-1] + 1]) if filled else None
