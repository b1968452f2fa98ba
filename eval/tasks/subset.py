"""Which of a task's cases are used: as many as wanted of each category, and no leaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from composer.errors import ConfigError
from composer.outcomes.table import normalised
from composer.profile import Case
from eval.tasks.task import Task


def limit(task: Task, n: int) -> Task:
    """The task with at most n cases of each split, shared evenly among its categories.

    They are the first n of taking turns: every category's first case, then every one's second.
    They stay in their order, and a smaller n has none that a larger one lacks.
    """
    numbers: Counter[tuple[str, str | None]] = Counter()
    ranked: dict[str, list[tuple[int, int]]] = {}
    for place, case in enumerate(task.cases):
        key = (case.split, case.category)
        ranked.setdefault(case.split, []).append((numbers[key], place))
        numbers[key] += 1
    kept = sorted(place for of_split in ranked.values() for _, place in sorted(of_split)[:n])
    return replace(task, cases=tuple(task.cases[place] for place in kept))


def check_leaks(task: Task) -> None:
    """Refuse a task of which a test question is in train, but for case and white space.

    Raises:
        ConfigError: How many are, and the first.
    """
    trained = _prompts(task, "train")
    leaks = [case for case in task.split("test") if normalised(case.prompt) in trained]
    if leaks:
        raise ConfigError(
            f"{task.name!r}: {len(leaks)} of the test questions are in train as well, first "
            f"{leaks[0].id!r}; take them out of train, or have that done by --drop-leaks"
        )


def without_leaks(task: Task) -> Task:
    """The task without train cases whose question is in test as well."""
    tested = _prompts(task, "test")

    def is_kept(case: Case) -> bool:
        return case.split != "train" or normalised(case.prompt) not in tested

    return replace(task, cases=tuple(filter(is_kept, task.cases)))


def _prompts(task: Task, split: str) -> set[str]:
    return {normalised(case.prompt) for case in task.split(split)}
