"""What SmolLM2 and Gemma are tried on together: the starter's skills, and Python's reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pydoc_data.topics import topics
from random import Random

from composer.latent.rows import Row
from composer.types import AnswerType, Message
from eval.starter.items import make_items
from eval.starter.skills import SKILLS

MIN_CHARACTERS, MAX_CHARACTERS = 160, 500
LETTERS = 0.9
"""Of a paragraph that counts as prose."""
HELD_OUT = 4
"""Every so many topics one is held out."""


@dataclass(frozen=True, slots=True)
class Question:
    """A row that is judged on."""

    row: Row
    skill: str
    answer_type: AnswerType | None
    """None: only its likelihood is looked at."""


def skill_rows(n: int, seed: int) -> list[Row]:
    """Rows to learn from, about as many of each skill."""
    each = -(-n // len(SKILLS))
    items = [item for s in SKILLS.values() for item in make_items(s, "train", each, seed)]
    Random(seed).shuffle(items)
    return [_row(item.prompt, item.reference) for item in items[:n]]


def skill_questions(each: int) -> list[Question]:
    """Questions of each skill, in words and of contents that no row to learn from has."""
    return [
        Question(_row(item.prompt, item.reference, "test"), item.skill, item.answer_type)
        for skill in SKILLS.values()
        for item in make_items(skill, "test", each, 0)
    ]


def text_rows(n: int, seed: int) -> list[Row]:
    """Paragraphs cut in two, of topics that are not held out; again from the first if need be."""
    rows = [row for number, rows in _topics() if number % HELD_OUT for row in rows]
    Random(seed).shuffle(rows)
    return [rows[i % len(rows)] for i in range(n)]


def text_questions() -> list[Question]:
    """The paragraphs of all other topics."""
    return [
        Question(Row(row.messages, row.answer, split="test"), "text", None)
        for number, rows in _topics()
        if number % HELD_OUT == 0
        for row in rows
    ]


def _topics() -> list[tuple[int, list[Row]]]:
    """Python's own reference, as its standard library brings it: prose, no code, no tables."""
    seen: set[str] = set()
    found: list[tuple[int, list[Row]]] = []
    for number, name in enumerate(sorted(topics)):
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", topics[name])]
        fresh = [p for p in dict.fromkeys(paragraphs) if _is_prose(p) and p not in seen]
        seen.update(fresh)
        found.append((number, [_halves(paragraph) for paragraph in fresh]))
    return found


def _is_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    is_sentence = re.match(r"[A-Z][a-z]", text) is not None
    return (
        MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS
        and is_sentence
        and letters > LETTERS * len(text)
    )


def _halves(text: str) -> Row:
    words = text.split()
    middle = len(words) // 2
    return _row(f"Continue this text: {' '.join(words[:middle])}", " ".join(words[middle:]))


def _row(prompt: str, answer: str, split: str = "train") -> Row:
    return Row((Message("user", prompt),), answer, split=split)
