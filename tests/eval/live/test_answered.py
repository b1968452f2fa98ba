from __future__ import annotations

import pytest

from composer.types import (
    Choice,
    Completion,
    Evidence,
    Failure,
    FailureKind,
    Outcome,
    Sample,
    Selection,
)
from eval.live.answered import NOBODY, Answered, Failed, Said, Took, account


def said(path: str, expert: str, n: int = 1, peers: tuple[str, ...] = ()) -> Completion:
    samples = (Sample("text", "stop", 2),) * n
    return Completion(f"a/b/{path}", expert, samples, 10, cost_usd=0.5, peers=peers)


def failed(path: str, expert: str, kind: FailureKind = "refused") -> Failure:
    return Failure(f"a/b/{path}", expert, kind, "no")


def chosen(*experts: str) -> Selection:
    choices = tuple(Choice(e, 0.75, 0.75, lambda: Evidence("so")) for e in experts)
    return Selection("a/b", "r", choices, experts, ("x", "y"), (0.75, float("nan")), "so")


def told(*outcomes: Outcome, selection: Selection = NOBODY, end: Said | None = None) -> Answered:
    return account("a/b", selection, outcomes, end or Said("text", "x", "stop"), Took(1.5, 0.5))


def test_whoever_is_asked_for_an_answer_of_its_own_proposes() -> None:
    answered = told(
        said("annotate/skill/w", "w"),
        said("propose/x", "x"),
        failed("propose/y", "y"),
        said("judge/z/1", "z"),
        said("aggregate/w", "w"),
    )

    assert answered.proposed == ("x", "y")
    assert answered.asked == ("w", "x", "y", "z")
    assert answered.failures == (Failed("y", "refused", "no"),)


@pytest.mark.parametrize(
    ("outcomes", "samples"),
    [
        ([said("propose/x", "x", 3), said("aggregate/x", "x")], 3),
        ([said("propose/x/1", "x"), said("propose/x/2", "x")], 2),
        ([said("propose/x", "x"), failed("propose/y", "y")], 1),
        ([said("aggregate/x", "x", n=4, peers=("y", "z"))], 3),
    ],
)
def test_samples_are_the_answers_that_were_given(outcomes: list[Outcome], samples: int) -> None:
    assert told(*outcomes).samples == samples


def test_experts_that_write_together_have_all_proposed() -> None:
    answered = told(said("aggregate/x", "x", n=3, peers=("y", "z")))

    assert answered.proposed == answered.asked == ("x", "y", "z")


def test_an_expert_whose_prompt_was_too_long_to_be_sent_has_not_proposed() -> None:
    answered = told(failed("propose/x", "x", "too_long"), said("propose/y", "y"))

    assert answered.proposed == ("y",)


def test_all_requests_count_towards_tokens_and_cost() -> None:
    answered = told(said("propose/x", "x", 2), said("judge/z/1", "z"), failed("propose/y", "y"))

    assert (answered.prompt_tokens, answered.completion_tokens) == (20, 6)
    assert answered.cost_usd == 1.0
    assert (answered.seconds, answered.ttft_s) == (1.5, 0.5)


def test_what_the_router_predicted_is_kept_with_unknown_qualities_as_none() -> None:
    answered = told(selection=chosen("x", "y"))

    assert answered.chosen == ("x", "y")
    assert answered.predicted == 0.75
    assert answered.quality == {"x": 0.75, "y": None}


def test_where_nobody_proposed_the_choice_is_what_there_was_to_work_with() -> None:
    assert told(selection=chosen("x", "y")).panel == ("x", "y")
    assert told(said("propose/z", "z"), selection=chosen("x")).panel == ("z",)


def test_failures_that_are_told_stand_for_those_among_the_outcomes() -> None:
    end = Said("text", "x", "stop", failures=[Failed("q", "too_long", "long")])

    answered = told(failed("propose/y", "y"), end=end)

    assert answered.failures == (Failed("q", "too_long", "long"),)
    assert answered.asked == ("y", "q")
