"""How experts are measured as aggregators, on scripted ones whose syntheses are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from composer.aggregators.saved import save_learned
from composer.aggregators.synthesis.measured import AggregatorScore
from composer.errors import ConfigError
from composer.profile import Case, Progress
from composer.profile.aggregating import draw_references
from composer.types import Completion, Failure, Outcome, Request, Sample
from tests.composer.aggregators.saying import references
from tests.composer.profile.conftest import RunProfile, Watch, lines

EXPERTS = """
experts:
  ada: {engine: scripted, engine_args: {text: "The answer is 42."}}
  bob: {engine: scripted, engine_args: {text: "The answer is 41.", failures: {"18": refused}}}
  eve: {engine: scripted, engine_args: {text: "The answer is 7."}}
  mum: {engine: scripted, engine_args: {failures: {"": refused}}}
"""
SUM = Case("sum", "What is 17 + 25?", "42", "number")
CASES = (
    SUM,
    Case("more", "What is 18 + 23?", "41", "number"),
    Case("held-out", "What is 6 + 36?", "42", "number", None, "test"),
)
LETTERS = "abcdef"


def told(texts: dict[str, str | None]) -> dict[tuple[str, str], Outcome]:
    """What experts said to the sum; None: they failed."""
    return {
        ("sum", name): Failure(name, name, "refused", "no")
        if text is None
        else Completion(name, name, (Sample(text, "stop", 1),), 1)
        for name, text in texts.items()
    }


def drawn(texts: dict[str, str | None], case_id: str = "sum") -> tuple[str, ...]:
    answers = {(case_id, name): outcome for (_, name), outcome in told(texts).items()}
    return draw_references(replace(SUM, id=case_id), list(texts), answers)


def test_who_finds_the_right_answer_scores_over_the_cases_that_it_answered(
    run_profile: RunProfile,
) -> None:
    found = run_profile(EXPERTS, CASES, aggregators=True)

    assert found.aggregators == (
        AggregatorScore("ada", 2, 1),
        AggregatorScore("bob", 1, 0),
        AggregatorScore("eve", 2, 0),
        AggregatorScore("mum", 0, 0),
    )


def test_every_expert_reads_the_same_references_of_a_case(
    run_profile: RunProfile, watch: Watch
) -> None:
    run_profile(EXPERTS, CASES[:1], aggregators=True)

    asked = [r for r in watch.asked if r.purpose == "aggregate"]
    assert [r.expert for r in asked] == ["ada", "bob", "eve", "mum"]
    assert len({r.messages for r in asked}) == 1
    assert sorted(references(asked[0])) == [
        "The answer is 41.",
        "The answer is 42.",
        "The answer is 7.",
    ]


def test_only_train_cases_are_used(run_profile: RunProfile, watch: Watch) -> None:
    run_profile(EXPERTS, CASES, aggregators=True)

    assert {r.id.split("/")[-1] for r in watch.asked if r.purpose == "aggregate"} == {"sum", "more"}


def test_a_case_that_nobody_answered_is_not_used(run_profile: RunProfile, watch: Watch) -> None:
    found = run_profile(EXPERTS, CASES, experts=["mum"], aggregators=True)

    assert not [r for r in watch.asked if r.purpose == "aggregate"]
    assert found.aggregators == (AggregatorScore("mum", 0, 0),)


def test_nothing_is_measured_unless_asked_for(run_profile: RunProfile, watch: Watch) -> None:
    found = run_profile(EXPERTS, CASES)

    assert found.aggregators == ()
    assert not [r for r in watch.asked if r.purpose == "aggregate"]


def test_failures_of_syntheses_are_told(run_profile: RunProfile) -> None:
    failures = run_profile(EXPERTS, CASES, experts=["ada", "bob"], aggregators=True).failures

    assert [f.request_id for f in failures] == ["answers/bob/more", "aggregators/bob/more"]


def test_progress_tells_of_the_syntheses(run_profile: RunProfile) -> None:
    seen: list[Progress] = []

    run_profile(EXPERTS, CASES, experts=["ada"], aggregators=True, on_progress=seen.append)

    assert seen[-1] == Progress("aggregators", "ada", 2, 2, 0)


def test_what_was_synthesised_is_not_asked_again(
    run_profile: RunProfile, watch: Watch, journal: Path
) -> None:
    first = run_profile(EXPERTS, CASES, experts=["ada", "eve"], aggregators=True)
    kept = lines(journal)

    again = run_profile(EXPERTS, CASES, experts=["ada", "eve"], aggregators=True)

    assert watch.asked == []
    assert again.aggregators == first.aggregators
    assert lines(journal) == kept


def test_another_expert_in_the_pool_makes_other_references(
    run_profile: RunProfile, watch: Watch
) -> None:
    run_profile(EXPERTS, CASES[:1], experts=["ada"], aggregators=True)

    run_profile(EXPERTS, CASES[:1], experts=["ada", "eve"], aggregators=True)

    assert [r.id for r in watch.asked] == [
        "answers/eve/sum",
        "aggregators/ada/sum",
        "aggregators/eve/sum",
    ]


def test_references_are_cut_to_the_context(run_profile: RunProfile, watch: Watch) -> None:
    long = "word " * 250
    experts = EXPERTS.replace("The answer is 7.", long).replace(
        '{text: "The answer is 42."}', '{text: "The answer is 42.", context: 500}'
    )

    run_profile(experts, CASES[:1], experts=["ada", "eve"], aggregators=True)

    by_expert = {r.expert: references(r) for r in watch.asked if r.purpose == "aggregate"}
    assert max(map(len, by_expert["ada"])) < 900
    assert long.strip() in by_expert["eve"]


def test_an_expert_without_room_for_references_fails_without_being_asked(
    run_profile: RunProfile, watch: Watch
) -> None:
    experts = EXPERTS.replace(
        '{text: "The answer is 42."}', '{text: "The answer is 42.", context: 280}'
    )

    found = run_profile(experts, CASES[:1], experts=["ada", "eve"], aggregators=True)

    assert [r.expert for r in watch.asked if r.purpose == "aggregate"] == ["eve"]
    assert [(f.request_id, f.kind) for f in found.failures] == [("aggregators/ada/sum", "too_long")]
    assert found.aggregators[0] == AggregatorScore("ada", 0, 0)


def test_cases_that_are_all_held_out_are_refused_before_any_is_asked(
    run_profile: RunProfile, journal: Path
) -> None:
    with pytest.raises(ConfigError, match="no case has the split 'train', by which aggregators"):
        run_profile(EXPERTS, CASES[2:], aggregators=True)

    assert not journal.exists()


def test_a_folder_of_another_aggregator_is_refused_before_any_is_asked(
    run_profile: RunProfile, journal: Path
) -> None:
    save_learned(journal.parent, "vote-learned", {})

    with pytest.raises(ConfigError, match="holds a 'vote-learned'"):
        run_profile(EXPERTS, CASES, aggregators=True)

    assert not journal.exists()


def test_one_right_and_two_wrong_answers_are_drawn() -> None:
    texts: dict[str, str | None] = {
        name: "42" if name in "abc" else f"4{i}4" for i, name in enumerate(LETTERS)
    }

    found = drawn(texts)

    assert len(found) == 3
    assert found.count("42") == 1
    assert len(set(found) - {"42", ""}) == 2


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ({"a": "42", "b": "42"}, ["", "", "42"]),
        ({"a": "41"}, ["", "", "41"]),
        ({"a": "42", "b": None, "c": "<think>41"}, ["", "", "42"]),
        ({"a": "<think>41</think>42", "b": "I pass."}, ["", "42", "I pass."]),
    ],
)
def test_where_there_are_too_few_a_reference_is_empty(
    texts: dict[str, str | None], left: list[str]
) -> None:
    assert sorted(drawn(texts)) == left


def test_the_draw_is_the_same_each_time_and_another_for_each_case() -> None:
    texts: dict[str, str | None] = {name: f"{i}1" for i, name in enumerate(LETTERS)}
    texts["z"] = "42"

    draws = {case_id: drawn(texts, case_id) for case_id in ("sum", "one", "two", "three")}

    assert draws == {case_id: drawn(texts, case_id) for case_id in draws}
    assert len(set(draws.values())) > 1
    assert len({found.index("42") for found in draws.values()}) > 1


def test_purposes_set_syntheses_apart(run_profile: RunProfile, watch: Watch) -> None:
    run_profile(EXPERTS, CASES[:1], experts=["ada"], aggregators=True)

    def described(request: Request) -> tuple[str, str, int | None]:
        return request.id, request.purpose, request.sampling.n

    assert [described(r) for r in watch.asked] == [
        ("answers/ada/sum", "propose", 1),
        ("aggregators/ada/sum", "aggregate", 1),
    ]
