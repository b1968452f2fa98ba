"""What a task is: labelled cases in splits, and what says how good an answer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from composer.answers import completion_answer, same_answer
from composer.profile import Case
from composer.types import Sample

Scorer = Callable[[Case, Sample], float]
"""How good what an expert said is, in [0, 1]."""


def typed_score(case: Case, sample: Sample) -> float:
    """1 where the sample holds the reference's answer by the case's type, else 0."""
    answer = completion_answer(sample, case.answer_type)
    return float(answer is not None and same_answer(answer, case.reference, case.answer_type))


@dataclass(frozen=True, slots=True)
class Task:
    """Questions whose answers can be scored.

    `train` cases are what routers learn from and the best single expert is chosen on, `test` cases
    what is judged. Ids are different within a task.
    """

    name: str
    cases: tuple[Case, ...]
    scorer: Scorer = typed_score

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of a split, in their order."""
        return tuple(case for case in self.cases if case.split == name)
