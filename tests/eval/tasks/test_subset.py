from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.profile import Case
from eval.tasks.subset import check_leaks, limit, without_leaks
from eval.tasks.task import Task


def make_task(*cases: tuple[str, str | None]) -> Task:
    """Cases of these splits and categories, with ids from 0."""
    return Task(
        "made",
        tuple(
            Case(str(i), f"question {i}", "1", "number", category, split)
            for i, (split, category) in enumerate(cases)
        ),
    )


def ids(task: Task) -> list[str]:
    return [case.id for case in task.cases]


TASKS = st.lists(
    st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["a", "b", "c", None])),
    max_size=30,
).map(lambda cases: make_task(*cases))


def test_categories_take_turns_until_there_are_enough():
    task = make_task(*[("test", c) for c in "aaaabbc"], ("train", "a"))

    assert ids(limit(task, 4)) == ["0", "1", "4", "6", "7"]


def test_the_turns_of_a_split_begin_anew():
    task = make_task(("train", "a"), ("test", "a"), ("test", "b"))

    assert ids(limit(task, 1)) == ["0", "1"]


@given(TASKS, st.integers(1, 20))
def test_each_split_has_what_it_can_of_the_limit_in_order(task: Task, n: int):
    kept = limit(task, n)

    for split in ("train", "test"):
        assert len(kept.split(split)) == min(n, len(task.split(split)))
    assert sorted(kept.cases, key=task.cases.index) == list(kept.cases)


@given(TASKS, st.integers(1, 20))
def test_no_category_has_two_more_than_one_that_has_cases_left(task: Task, n: int):
    kept = Counter(case.category for case in limit(task, n).split("test"))
    there = Counter(case.category for case in task.split("test"))

    short = [kept[category] for category in there if kept[category] < there[category]]
    assert not short or max(kept.values()) <= min(short) + 1


@given(TASKS, st.integers(1, 10), st.integers(0, 10))
def test_a_larger_limit_keeps_what_a_smaller_one_does(task: Task, n: int, more: int):
    assert limit(limit(task, n + more), n) == limit(task, n)


def leaky() -> Task:
    """Two test questions that are in train but for case and white space."""
    return Task(
        "made",
        (
            Case("t0", "What is\n 1 + 1?", "2", "number", None, "train"),
            Case("t1", "Who?", "2", "number", None, "train"),
            Case("t2", "Why?", "2", "number", None, "train"),
            Case("q0", "How?", "2", "number", None, "test"),
            Case("q1", "what is 1 + 1? ", "2", "number", None, "test"),
            Case("q2", "WHO?", "2", "number", None, "test"),
            Case("v0", "Why?", "2", "number", None, "validation"),
        ),
    )


def test_leaks_are_counted_and_the_first_is_named_with_the_remedy():
    with pytest.raises(ConfigError) as caught:
        check_leaks(leaky())

    message = str(caught.value)
    assert message.startswith("'made': 2 of the test questions are in train as well, first 'q1'; ")
    assert "--drop-leaks" in message


def test_without_its_leaks_a_task_keeps_its_test_questions_and_is_not_refused():
    task = without_leaks(leaky())

    assert ids(task) == ["t2", "q0", "q1", "q2", "v0"]
    check_leaks(task)
