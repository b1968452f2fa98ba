from __future__ import annotations

from dataclasses import replace

import pytest

from composer.errors import ConfigError
from composer.profile import Case
from eval.live.questions import gather
from eval.tasks.task import Task


def case(case_id: str, split: str, prompt: str = "", category: str | None = None) -> Case:
    return Case(case_id, prompt or f"the prompt of {case_id}", "1", "number", category, split)


MATHS = Task("maths", (case("a", "train"), case("b", "test"), case("c", "dev")))
FACTS = Task("facts", (case("d", "train"), case("e", "test", category="rivers")))


def test_train_and_test_cases_are_asked_and_those_of_other_splits_are_not() -> None:
    found = gather([MATHS])

    assert [q.case.id for q in found.train] == ["a"]
    assert [q.case.id for q in found.test] == ["b"]
    assert (found.tasks, found.test[0].task) == (("maths",), "maths")


def test_among_several_tasks_a_case_without_a_category_has_its_tasks_name_for_one() -> None:
    found = gather([MATHS, FACTS])

    assert [q.case.category for q in found.test] == ["maths", "rivers"]
    assert gather([MATHS]).test[0].case.category is None


def test_an_id_of_two_tasks_is_refused_with_both() -> None:
    other = Task("other", (case("b", "test"),))

    with pytest.raises(ConfigError, match="the id 'b' is in task 'maths' and in task 'other'; ren"):
        gather([MATHS, other])


def test_tasks_without_a_test_case_are_refused() -> None:
    with pytest.raises(ConfigError, match="no test case in 'maths', so nothing to judge; mark"):
        gather([replace(MATHS, cases=MATHS.cases[:1])])


def test_a_test_question_that_another_task_trains_on_is_refused() -> None:
    leaking = Task("leaking", (case("x", "train", "The  prompt of B"),))

    with pytest.raises(ConfigError, match="1 of 1 test questions are in the train split too, the"):
        gather([MATHS, leaking])
