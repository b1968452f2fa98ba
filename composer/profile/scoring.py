"""Outcomes of cases -> the table that routers are fitted on: what is right, and what it took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from composer.answers import completion_answer, same_answer
from composer.experts import Expert
from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
)
from composer.profile.cases import Case
from composer.types import Annotation, Completion, Outcome


def make_table(
    name: str,
    cases: Sequence[Case],
    experts: Sequence[Expert],
    outcomes: Mapping[tuple[str, str], Outcome],
    annotations: Mapping[str, Mapping[str, Any]],
) -> OutcomeTable:
    """Score what experts said: 1 where it has the reference's answer, 0 where another or none.

    Where an expert failed, all is unknown.

    Args:
        name: The table's.
        cases: n of them.
        experts: m of them.
        outcomes: By the ids of case and expert, all n x m of them.
        annotations: By the cases' ids, where there are any.
    """
    shape = (len(cases), len(experts))
    amounts = ("score", "cost_usd", "latency_s", "prompt_tokens", "completion_tokens")
    cells = {amount: np.full(shape, math.nan, np.float32) for amount in amounts}
    texts = np.full(shape, None, np.object_)
    answers = dict[tuple[int, int], str | None]()
    for row, case in enumerate(cases):
        for column, expert in enumerate(experts):
            outcome = outcomes[case.id, expert.name]
            if not isinstance(outcome, Completion):
                continue
            cell = row, column
            tokens = outcome.prompt_tokens, outcome.completion_tokens
            texts[cell] = outcome.text
            answer = completion_answer(outcome.samples[0], case.answer_type)
            answers[cell] = answer
            cells["score"][cell] = answer is not None and same_answer(
                answer, case.reference, case.answer_type
            )
            # Not as it was billed: prices may have been corrected since.
            cells["cost_usd"][cell] = expert.price.cost_usd(*tokens)
            cells["latency_s"][cell] = outcome.generating_s
            cells["prompt_tokens"][cell], cells["completion_tokens"][cell] = tokens
    return OutcomeTable(
        name,
        tuple(_query(case, annotations.get(case.id)) for case in cases),
        tuple(_expert(expert) for expert in experts),
        answers=_code(answers, shape),
        texts=texts,
        **cells,
    )


def _query(case: Case, annotation: Mapping[str, Any] | None) -> RecordedQuery:
    return RecordedQuery(
        case.id,
        case.prompt,
        case.split,
        case.category,
        case.reference,
        annotation=None if annotation is None else Annotation(annotation),
        answer_type=case.answer_type,
    )


def _expert(expert: Expert) -> RecordedExpert:
    return RecordedExpert(
        expert.name,
        expert.params_b,
        expert.price.input_usd_per_mtok,
        expert.price.output_usd_per_mtok,
        description=expert.description,
    )


def _code(answers: Mapping[tuple[int, int], str | None], shape: tuple[int, int]) -> Answers:
    values = sorted({answer for answer in answers.values() if answer is not None})
    number = {value: code for code, value in enumerate(values)}
    codes = np.full(shape, NOT_RECORDED, np.int32)
    for cell, answer in answers.items():
        codes[cell] = NOT_EXTRACTED if answer is None else number[answer]
    return Answers(tuple(values), codes)
