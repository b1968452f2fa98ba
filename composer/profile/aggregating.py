"""How well each expert finds the right answer among references: whom to let aggregate."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

from composer.aggregators.references import with_references, without_thinking
from composer.aggregators.synthesis.measured import AggregatorScore
from composer.answers import completion_answer, same_answer
from composer.errors import ConfigError
from composer.profile.asking import Asking
from composer.profile.cases import Case
from composer.tools import PoolTools
from composer.types import Completion, Failure, Outcome, Request, Sampling

logger = logging.getLogger(__name__)

N_WRONG = 2
SPLIT = "train"
"""Whose cases are used; others are for evaluation."""


def check_cases(cases: Sequence[Case]) -> None:
    """Refuse cases of which none may be used.

    Raises:
        ConfigError: None is of the split.
    """
    if not any(case.split == SPLIT for case in cases):
        raise ConfigError(
            f"no case has the split {SPLIT!r}, by which aggregators are measured; leave 'split' "
            "out of some"
        )


async def measure_aggregators(
    cases: Sequence[Case],
    experts: Sequence[str],
    answers: Mapping[tuple[str, str], Outcome],
    asking: Asking,
) -> tuple[tuple[AggregatorScore, ...], tuple[Failure, ...]]:
    """Have each expert synthesise the same references of each case, and score what it says.

    Args:
        cases: Those of `SPLIT` are used, unless nobody said anything to one.
        experts: Who synthesises, and whose answers the references are drawn from.
        answers: What they said, by the ids of case and expert.
        asking: Runs the requests.

    Returns:
        The experts' scores in their order, over the cases that they answered; and failures.

    Source: Symbolic-MoE (arXiv 2503.05641; bench_aggr.py of dinobby/Symbolic-MoE). Deviations:
    answers are compared by the case's own type, where the code reads letters whatever was asked;
    and references are without reasoning and cut to the context.
    """
    tools = PoolTools(asking.pool)
    for name in experts:
        try:
            await asking.pool.resolve(name)
        except ConfigError as exc:
            logger.debug("%s is not resolved: %s", name, exc)
    drawn = {case.id: draw_references(case, experts, answers) for case in cases}
    used = [case for case in cases if case.split == SPLIT and any(drawn[case.id])]
    prepared = {
        (case.id, name): with_references(_request(case, name), [drawn[case.id]], tools)
        for name in experts
        for case in used
    }
    requests = [each for each in prepared.values() if isinstance(each, Request)]
    outcomes = await asking.ask("aggregators", requests)
    told = {
        cell: each if isinstance(each, Failure) else outcomes[each.id]
        for cell, each in prepared.items()
    }
    scores = tuple(_score(name, used, told) for name in experts)
    return scores, tuple(o for o in told.values() if isinstance(o, Failure))


def draw_references(
    case: Case, experts: Sequence[str], answers: Mapping[tuple[str, str], Outcome]
) -> tuple[str, ...]:
    """One right answer of the experts and two wrong ones, shuffled; "" where there are too few."""
    pool: dict[bool, list[str]] = {True: [], False: []}
    for name in experts:
        outcome = answers[case.id, name]
        if isinstance(outcome, Completion) and (text := without_thinking(outcome.text)):
            pool[is_right(case, outcome)].append(text)
    rng = random.Random(f"references/{case.id}")
    drawn: list[str] = []
    for texts, wanted in ((pool[True], 1), (pool[False], N_WRONG)):
        found = rng.sample(texts, min(wanted, len(texts)))
        drawn += [*found, *[""] * (wanted - len(found))]
    rng.shuffle(drawn)
    return tuple(drawn)


def is_right(case: Case, completion: Completion) -> bool:
    """Whether an expert gave the case's answer."""
    answer = completion_answer(completion.samples[0], case.answer_type)
    return answer is not None and same_answer(answer, case.reference, case.answer_type)


def _request(case: Case, expert: str) -> Request:
    return Request(
        f"aggregators/{expert}/{case.id}",
        expert,
        case.to_query().messages,
        Sampling(n=1),
        purpose="aggregate",
    )


def _score(
    expert: str, cases: Sequence[Case], told: Mapping[tuple[str, str], Outcome]
) -> AggregatorScore:
    found = [(case, told[case.id, expert]) for case in cases]
    right = [is_right(case, o) for case, o in found if isinstance(o, Completion)]
    return AggregatorScore(expert, len(right), sum(right))
