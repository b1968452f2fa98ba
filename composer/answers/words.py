"""Answers in words: yes or no, and a short text in normal form."""

from __future__ import annotations

import re
import unicodedata

from composer.answers.reading import (
    BOXED,
    IS,
    WRAPPING,
    last,
    lines,
    typewritten,
)

# "no" is an answer only where it is not the beginning of "no one" or "No. 5".
_YES_OR_NO = (
    r"(?:(yes)|(no)(?=\s*[^\w\s]|\s*$|\s+(?:because|since|as|it|they|he|she|this|that|there)\b))\b"
    r"(?!-\w|\.\s*\d|\s*/|,?\s+(?:or|and)\s+(?:yes|no)\b)"
)
_STATED_YES_OR_NO = re.compile(rf"(?i:\banswer{IS}{_YES_OR_NO})")
_LEADING_YES_OR_NO = re.compile(rf"(?i:\A[\s*_]*{_YES_OR_NO})")


def read_yes_no(text: str) -> str | None:
    """What a text answers, "yes" or "no"; None: neither, or both."""
    text = typewritten(text)
    word = (
        last(_STATED_YES_OR_NO, text)
        or _yes_or_no_alone(last(BOXED, text) or "")
        or last(_LEADING_YES_OR_NO, text)
        or _yes_or_no_alone((lines(text) or [""])[-1])
    )
    return word.lower() if word else None


def _yes_or_no_alone(text: str) -> str | None:
    word = re.sub(r"\\text", "", text).strip(WRAPPING).lower()
    return word if word in ("yes", "no") else None


def read_text(text: str) -> str | None:
    """The normal form of a text; None: there is no word in it."""
    folded = unicodedata.normalize("NFKC", typewritten(text)).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    words = [
        bare
        for word in folded.split()
        if (bare := word.lstrip("\"'«([{*_`").rstrip(".,;:!?…\"'»)]}*_`"))
    ]
    end = len(words) - 1
    # An article stands before another word: "vitamin A" keeps its letter.
    kept = [w for i, w in enumerate(words) if i == end or w not in ("a", "an", "the")]
    return " ".join(kept) or None
