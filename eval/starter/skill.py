"""What a skill is: questions that a program makes, phrased in three splits, with answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from composer.types import AnswerType

Split = Literal["train", "profile", "test"]
SPLITS: tuple[Split, ...] = ("train", "profile", "test")


@dataclass(frozen=True, slots=True)
class Content:
    """What one question is about, whatever its phrasing."""

    fields: Mapping[str, str]
    """What fills the phrasings."""
    answer: str

    @property
    def key(self) -> str:
        """The same for the same content: what keeps splits apart."""
        return "|".join(f"{name}={value}" for name, value in sorted(self.fields.items()))


@dataclass(frozen=True, slots=True)
class Skill:
    """One narrow task that is either right or wrong."""

    name: str
    description: str
    """For routers and people."""
    answer_type: AnswerType
    make: Callable[[Random], Content]
    words: tuple[str, ...]
    """Whoever routes by keywords would know the skill by these."""
    phrasings: Mapping[Split, tuple[str, ...]]
    """By split, none in two of them; some name none of the words."""

    def names_itself(self, phrasing: str) -> bool:
        """Whether a phrasing has a word that gives the skill away."""
        text = re.sub(r"{\w+}", "", phrasing).lower()
        return any(word in text for word in self.words)


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its answer."""

    id: str
    skill: str
    prompt: str
    reference: str
    answer_type: AnswerType
    names_skill: bool
