"""What a run asks: the cases of its tasks together, none of its test questions known from train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from composer.errors import ConfigError
from composer.outcomes.table import normalised
from composer.profile import Case
from eval.tasks.task import Scorer, Task


@dataclass(frozen=True, slots=True)
class Question:
    """A case, and who scores the answers to it."""

    case: Case
    task: str
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class Questions:
    """The cases of all tasks of a run; ids are different."""

    tasks: tuple[str, ...]
    """Their names."""
    train: tuple[Question, ...]
    """What the best single expert is chosen on."""
    test: tuple[Question, ...]
    """What is judged."""

    @property
    def name(self) -> str:
        """What a table of them is called."""
        return "+".join(self.tasks)


def gather(tasks: Sequence[Task]) -> Questions:
    """The train and the test cases of tasks; those of other splits are left out.

    Of several tasks, a case without a category has its task's name for one.

    Raises:
        ConfigError: There is no test case, two cases have one id, or a test question is in train.
    """
    found: dict[str, Question] = {}
    for task in tasks:
        for case in (*task.split("train"), *task.split("test")):
            if case.id in found:
                other = found[case.id].task
                raise ConfigError(
                    f"the id {case.id!r} is in task {other!r} and in task {task.name!r}; rename "
                    "one of the cases, or run the tasks apart"
                )
            if len(tasks) > 1 and case.category is None:
                case = replace(case, category=task.name)
            found[case.id] = Question(case, task.name, task.scorer)
    train = tuple(q for q in found.values() if q.case.split == "train")
    test = tuple(q for q in found.values() if q.case.split == "test")
    if not test:
        names = ", ".join(repr(task.name) for task in tasks)
        raise ConfigError(f"no test case in {names}, so nothing to judge; mark some split 'test'")
    refuse_known(test, ((q.case.id, q.case.prompt) for q in train), "the train split")
    return Questions(tuple(task.name for task in tasks), train, test)


def refuse_known(test: Sequence[Question], trained: Iterable[tuple[str, str]], where: str) -> None:
    """Refuse test questions that what is chosen on holds too, by id or by prompt.

    Prompts are compared without regard to case and white space.

    Args:
        test: The questions that are judged.
        trained: Ids and prompts of what is chosen on.
        where: What that is, for the message.

    Raises:
        ConfigError: There are some.
    """
    ids: set[str] = set()
    prompts: set[str] = set()
    for query_id, prompt in trained:
        ids.add(query_id)
        prompts.add(normalised(prompt))
    known = [q.case.id for q in test if q.case.id in ids or normalised(q.case.prompt) in prompts]
    if known:
        raise ConfigError(
            f"{len(known)} of {len(test)} test questions are in {where} too, the first "
            f"{known[0]!r}; take them out of one of the two"
        )
