"""One line for a name that does not exist: what was meant, or what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(word: str, choices: Iterable[str]) -> str:
    """The remedy for a word that is none of the choices."""
    known = sorted(set(choices))
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? choose from {known}" if close else f"choose from {known}"


def unknown_name(kind: str, word: str, choices: Iterable[str]) -> str:
    """The message for a name of some kind that does not exist."""
    return f"no {kind} {word!r}; {suggest(word, choices)}"
