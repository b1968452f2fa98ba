"""The starter pool's skills as a task: a category each, and none of what its adapters learned."""

from __future__ import annotations

from collections.abc import Mapping

from composer.errors import ConfigError
from composer.profile import Case
from composer.suggest import unknown_name
from eval.starter.items import make_items
from eval.starter.skill import Split
from eval.starter.skills import SKILLS
from eval.tasks.task import Task

QUESTIONS: Mapping[str, tuple[Split, int]] = {"train": ("profile", 50), "test": ("test", 100)}
"""Of each skill: a split, whose questions it has, and how many.

The questions' own `train` is what adapters learned from. Of Roman numerals `profile` has only 59.
"""
MAX_TOKENS = 32
"""Of an answer: no right one is as long."""


def starter_task(skill: str | None = None) -> Task:
    """The questions of all skills, or of one.

    Raises:
        ConfigError: There is no such skill.
    """
    if skill is not None and skill not in SKILLS:
        raise ConfigError(unknown_name("skill", skill, SKILLS))
    cases = [
        Case(item.id, item.prompt, item.reference, item.answer_type, item.skill, split, MAX_TOKENS)
        for name in ([skill] if skill is not None else SKILLS)
        for split, (its_split, n) in QUESTIONS.items()
        for item in make_items(SKILLS[name], its_split, n)
    ]
    return Task("starter" if skill is None else f"starter:{skill}", tuple(cases))
