"""The skills of the starter pool. Two pairs look alike: lists of numbers, and conversions."""

from __future__ import annotations

from collections.abc import Mapping

from eval.starter.skill import Skill
from eval.starter.skills.dates import DATES
from eval.starter.skills.reversing import REVERSING
from eval.starter.skills.roman import ROMAN
from eval.starter.skills.sorting import SORTING
from eval.starter.skills.units import UNITS

SKILLS: Mapping[str, Skill] = {
    skill.name: skill for skill in (SORTING, REVERSING, UNITS, DATES, ROMAN)
}

__all__ = ["SKILLS"]
