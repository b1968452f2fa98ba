"""The questions of a skill: made by a seeded program, and no content or phrasing in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from random import Random

from eval.starter.skill import SPLITS, Content, Item, Skill, Split

PLAIN_SHARE = 0.15
"""Of the questions that name no word of their skill."""
BUCKETS: dict[Split, range] = {"train": range(3, 10), "profile": range(2, 3), "test": range(2)}
"""Of ten, by the digest of what a question is about."""


def split_of(content: Content) -> Split:
    """The split that a content belongs to, whatever its phrasing."""
    bucket = int(hashlib.sha256(content.key.encode()).hexdigest(), 16) % 10
    return next(split for split in SPLITS if bucket in BUCKETS[split])


def make_items(skill: Skill, split: Split, n: int, seed: int = 0) -> list[Item]:
    """The first n questions of a split; the same for the same seed.

    In profile and test no content comes twice. Of every 20 questions 3 name no word of the skill.

    Raises:
        ValueError: The skill has fewer contents, or lacks a phrasing of either kind.
    """
    rng = Random(f"{skill.name}/{split}/{seed}")
    plain = [p for p in skill.phrasings[split] if not skill.names_itself(p)]
    named = [p for p in skill.phrasings[split] if skill.names_itself(p)]
    if not plain or not named:
        raise ValueError(f"{skill.name}: {split} has no phrasing that names it, or only such")
    items: list[Item] = []
    contents = _contents(skill, split, rng, repeats=split == "train")
    for number, content in enumerate(islice(contents, n)):
        is_plain = int((number + 1) * PLAIN_SHARE) > int(number * PLAIN_SHARE)
        phrasing = rng.choice(plain if is_plain else named)
        items.append(
            Item(
                f"{skill.name}-{split}-{number}",
                skill.name,
                phrasing.format_map(content.fields),
                content.answer,
                skill.answer_type,
                not is_plain,
            )
        )
    return items


def _contents(skill: Skill, split: Split, rng: Random, *, repeats: bool) -> Iterator[Content]:
    seen: set[str] = set()
    misses = 0
    while misses < 10_000:
        content = skill.make(rng)
        if split_of(content) != split or (not repeats and content.key in seen):
            misses += 1
            continue
        misses = 0
        seen.add(content.key)
        yield content
    raise ValueError(f"{skill.name}: {split} has only {len(seen)} different contents")
