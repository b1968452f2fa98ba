"""Who proposes, what the judge is asked, whom it makes the winner, and what happens without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.judge.judge import JudgeAggregator
from composer.entries import Expert, SamplingDefaults
from composer.errors import AggregationError, ConfigError
from composer.judge_prompts import PREFERENCE_SCHEMA, SCORE_SCHEMA
from composer.types import Request
from tests.composer.aggregators.saying import Say, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

PROPOSALS = {"ann": "41", "ben": "42", "cas": "43", "dan": "44"}


def scoring(scores: Mapping[str, str | int]) -> Say:
    """Experts propose; a proposal's score, or another reply, is found by its text."""

    def say(request: Request, number: int) -> str | None:
        if request.purpose == "propose":
            return PROPOSALS[request.expert]
        answer = request.messages[1].content.rpartition("<reference answer>\n")[2]
        said = scores[answer.partition("\n")[0]]
        return said if isinstance(said, str) else json.dumps({"score": said})

    return say


def judging(reply: str | None, proposals: Mapping[str, str] = PROPOSALS) -> Say:
    """Experts propose; the judge has one reply to everything, or fails."""
    return lambda request, number: (
        reply if request.purpose == "judge" else proposals.get(request.expert)
    )


def test_the_proposal_with_the_best_score_is_the_answer_unchanged(drive: Drive) -> None:
    ran = run_saying(
        JudgeAggregator(by="dan"),
        scoring({"41": 6, "42": 9, "43": 8}),
        drive.query(),
        drive.selection(),
    )

    assert ran.answer.text == "42"
    assert ran.answer.expert == "ben"
    assert ran.answer.reason == "dan put ben first of 3 proposals, with 9 of 10"
    assert ran.answer.details == {
        "by": "dan",
        "mode": "pointwise",
        "ranking": ("ben", "cas", "ann"),
        "judged": True,
        "silent": (),
        "failed": (),
        "scores": {"ann": 6, "ben": 9, "cas": 8},
        "unusable": 0,
    }
    assert json.loads(json.dumps(ran.answer.details))


def test_proposals_are_asked_for_at_once_and_then_judged_at_once(drive: Drive) -> None:
    ran = drive(JudgeAggregator(by="dan"), {**PROPOSALS, "judge dan": '{"score": 5}'})

    assert [r.id for r in ran.requests] == [
        "q1/propose/ann",
        "q1/propose/ben",
        "q1/propose/cas",
        "q1/judge/dan/1",
        "q1/judge/dan/2",
        "q1/judge/dan/3",
    ]
    assert not any(r.final for r in ran.requests)
    assert {r.purpose for r in ran.requests[3:]} == {"judge"}


def test_equal_scores_keep_the_selections_rank(drive: Drive) -> None:
    ran = run_saying(
        JudgeAggregator(by="dan"),
        scoring({"41": 6, "42": 8, "43": 8}),
        drive.query(),
        drive.selection(),
    )

    assert ran.answer.details["ranking"] == ("ben", "cas", "ann")


def test_a_proposal_without_a_score_comes_last_and_is_not_guessed_at(drive: Drive) -> None:
    ran = run_saying(
        JudgeAggregator(by="dan"),
        scoring({"41": "it deserves a 10", "42": 1, "43": 2}),
        drive.query(),
        drive.selection(),
    )

    assert ran.answer.details["ranking"] == ("cas", "ben", "ann")
    assert ran.answer.details["scores"] == {"ann": None, "ben": 1, "cas": 2}
    assert ran.answer.details["unusable"] == 1


def test_the_mean_of_several_judgements_counts_less_those_that_are_unusable(drive: Drive) -> None:
    scores = {"41": [5, 5, 5], "42": [9, 4, 2], "43": [6, 5, None]}

    def say(request: Request, number: int) -> str:
        if request.purpose == "propose":
            return PROPOSALS[request.expert]
        said = next(s for text, s in scores.items() if f"\n{text}\n" in request.messages[1].content)
        return json.dumps({"score": said[number - 1]})

    ran = run_saying(
        JudgeAggregator(by="dan", samples=3, judge_temperature=0.7),
        say,
        drive.query(),
        drive.selection(),
    )

    assert ran.answer.details["scores"] == {"ann": 5, "ben": 5, "cas": 5.5}
    assert ran.answer.expert == "cas"
    judged = [r for r in ran.requests if r.purpose == "judge"]
    assert len(judged) == 3
    assert {(r.sampling.n, r.sampling.temperature) for r in judged} == {(3, 0.7)}


@pytest.mark.parametrize(
    ("mode", "schema"), [("pointwise", SCORE_SCHEMA), ("pairwise", PREFERENCE_SCHEMA)]
)
def test_the_judge_is_held_to_a_schema_unless_its_engine_has_none(
    drive: Drive, mode: Any, schema: Mapping[str, Any]
) -> None:
    held = drive(JudgeAggregator(by="dan", mode=mode), PROPOSALS)
    free = drive(JudgeAggregator(by="dan", mode=mode, constrained=False), PROPOSALS)

    assert {json.dumps(r.schema) for r in held.requests if r.purpose == "judge"} == {
        json.dumps(schema)
    }
    assert all(r.schema is None for r in [*free.requests, *held.requests[:3]])


def test_the_rubric_reaches_the_judge(drive: Drive) -> None:
    ran = drive(JudgeAggregator(by="dan", rubric="Only the tone counts."), PROPOSALS)

    assert all("Only the tone counts." in r.messages[0].content for r in ran.requests[3:])


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_the_best_ranked_proposal_is_the_answer_when_the_judge_fails(
    drive: Drive, mode: Any
) -> None:
    ran = run_saying(
        JudgeAggregator(by="dan", mode=mode), judging(None), drive.query(), drive.selection()
    )

    assert ran.answer.text == "41"
    assert ran.answer.reason == "the best-ranked proposal, because dan failed: it is gone"
    assert ran.answer.details["judged"] is False
    assert {f.expert for f in ran.answer.failures} == {"dan"}


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_a_judge_that_says_nothing_usable_is_quoted_in_one_line(drive: Drive, mode: Any) -> None:
    ran = run_saying(
        JudgeAggregator(by="dan", mode=mode),
        judging("I\nlike " + "them " * 50),
        drive.query(),
        drive.selection(),
    )

    assert ran.answer.text == "41"
    assert "dan gave no usable judgement, such as 'I like them" in ran.answer.reason
    assert len(ran.answer.reason) < 160
    assert ran.answer.failures == ()


def test_the_judge_does_not_propose_and_the_next_of_the_ranking_does(drive: Drive) -> None:
    ran = drive(JudgeAggregator(by="ben"), {**PROPOSALS, "judge ben": '{"score": 5}'})

    asked = [r.expert for r in ran.requests if r.purpose == "propose"]
    assert asked == ["ann", "cas", "dan"]


def test_a_judge_may_be_told_to_judge_itself(drive: Drive) -> None:
    ran = drive(
        JudgeAggregator(by="ben", judge_self=True), {**PROPOSALS, "judge ben": '{"score": 5}'}
    )

    asked = [r.expert for r in ran.requests if r.purpose == "propose"]
    assert asked == ["ann", "ben", "cas"]
    assert ran.answer.details["scores"] == {"ann": 5, "ben": 5, "cas": 5}


def test_a_judge_that_is_all_there_is_answers_unjudged(drive: Drive) -> None:
    alone = drive.selection(k=1, ranking=["ben"])

    one = drive(JudgeAggregator(by="ben"), PROPOSALS, selection=alone)
    samples = drive(JudgeAggregator(by="ben", n=3, temperature=1.0), PROPOSALS, selection=alone)

    for ran in (one, samples):
        assert [r.purpose for r in ran.requests] == ["propose"]
        assert ran.answer.text == "42"
        assert ran.answer.details["judged"] is False
    assert "does not judge itself" in samples.answer.reason


def test_a_single_proposal_is_not_judged(drive: Drive) -> None:
    ran = drive(JudgeAggregator(by="dan"), {"cas": "43", "ben": "<think>hm</think>"})

    assert ran.answer.text == "43"
    assert [r.purpose for r in ran.requests] == ["propose"] * 3
    assert ran.answer.reason == "the best-ranked proposal, because it is the only one"
    assert ran.answer.details["silent"] == ("ben",)
    assert ran.answer.details["failed"] == ("ann",)


def test_reasoning_is_kept_from_the_judge_and_stays_in_the_answer(drive: Drive) -> None:
    said = {**PROPOSALS, "ann": "<think>6 x 7 = 41?</think>It is 41."}

    ran = run_saying(
        JudgeAggregator(by="dan"), judging('{"score": 5}', said), drive.query(), drive.selection()
    )

    assert (
        ran.requests[3]
        .messages[1]
        .content.endswith("<reference answer>\nIt is 41.\n</reference answer>")
    )
    assert ran.answer.text == said["ann"]


def test_silence_everywhere_is_an_error_that_names_the_silent(drive: Drive) -> None:
    with pytest.raises(AggregationError, match="ben: it is gone; cas: it is gone; ann: said not"):
        drive(JudgeAggregator(by="dan"), {"ann": " "})


def test_best_of_n_judges_the_samples_of_the_first_choice(drive: Drive) -> None:
    def say(request: Request, number: int) -> str:
        if request.purpose == "propose":
            return f"draft {number}"
        return json.dumps({"score": 9 if "draft 2" in request.messages[1].content else 4})

    ran = run_saying(
        JudgeAggregator(by="dan", n=3, temperature=0.9), say, drive.query(), drive.selection()
    )

    assert [r.id for r in ran.requests] == ["q1/propose/ann"] + [
        f"q1/judge/dan/{i}" for i in (1, 2, 3)
    ]
    assert (ran.requests[0].sampling.n, ran.requests[0].sampling.temperature) == (3, 0.9)
    assert ran.answer.text == "draft 2"
    assert ran.answer.expert == "ann"
    assert ran.answer.details["ranking"] == ("ann/2", "ann/1", "ann/3")


def test_best_of_n_goes_down_the_ranking_but_not_to_the_judge(drive: Drive) -> None:
    ran = drive(JudgeAggregator(by="ben", n=2, temperature=1.0), {"cas": "43", "ben": "42"})

    assert [r.id for r in ran.requests[:2]] == ["q1/propose/ann", "q1/propose/cas"]
    assert ran.answer.expert == "cas"
    assert ran.answer.details["failed"] == ("ann",)


def test_proposals_are_cut_to_the_judges_context(drive: Drive) -> None:
    said = {**PROPOSALS, "ann": "a" * 5000, "judge dan": '{"score": 5}'}

    ran = drive(JudgeAggregator(by="dan"), said, limits={"dan": 2000})

    judged = [r for r in ran.requests if r.purpose == "judge"]
    assert len(judged) == 3
    assert all(sum(len(m.content) for m in r.messages) <= 2000 - 256 for r in judged)
    assert "a" * 500 in judged[0].messages[1].content


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_a_judge_without_room_for_any_proposal_is_not_asked(drive: Drive, mode: Any) -> None:
    said = {name: text * 100 for name, text in PROPOSALS.items()}

    ran = drive(JudgeAggregator(by="dan", mode=mode), said, limits={"dan": 400})

    assert [r.purpose for r in ran.requests] == ["propose"] * 3
    assert {f.kind for f in ran.answer.failures} == {"too_long"}
    assert ran.answer.text == said["ann"]
    assert "name a judge with a longer context" in ran.answer.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 1}, "'n' is 1; set 2 or more"),
        ({"temperature": 0.7}, "beside 'n'"),
        ({"n": 4, "temperature": 0.0}, "set it above 0"),
        ({"samples": 0}, "'samples' is 0; set 1 or more"),
        ({"judge_temperature": -1.0}, "'judge_temperature' is -1.0; set 0 or more"),
        ({"rubric": " "}, "'rubric' is empty; say what to look at"),
        ({"mode": "listwise"}, "setting 'mode' cannot be 'listwise'"),
    ],
)
def test_a_value_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_aggregator("judge", {"by": "dan", **settings})

    assert "\n" not in str(caught.value)


def expert(name: str, **fields: Any) -> Expert:
    return Expert.model_validate({"name": name, "engine": "scripted", **fields})


def named(*experts: Expert) -> dict[str, Expert]:
    return {e.name: e for e in experts}


WARM = {"sampling": SamplingDefaults(temperature=0.7)}


@pytest.mark.parametrize(
    ("settings", "experts", "message"),
    [
        ({}, [expert("ann")], "no expert 'dan'; did you mean 'ann'"),
        ({}, [expert("dan")], "'dan' is the only expert and would judge itself; add an expert"),
        (
            {},
            [expert("ann"), expert("dan", engine="recorded")],
            r"'dan' \(recorded\) cannot keep to a JSON schema; name another judge",
        ),
        (
            {"samples": 3},
            [expert("ann"), expert("dan")],
            "3 judgements of 'dan' at temperature 0 are all the same; set 'judge_temperature'",
        ),
        (
            {"n": 3},
            [expert("ann"), expert("dan")],
            "3 samples of 'ann' at temperature 0 are all the same; set 'temperature'",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_experts_yaml_is_read(
    settings: dict[str, Any], experts: list[Expert], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        JudgeAggregator(by="dan", **settings).check(named(*experts), 1)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "experts"),
    [
        ({}, [expert("ann"), expert("dan")]),
        ({"judge_self": True}, [expert("dan")]),
        ({"constrained": False}, [expert("ann"), expert("dan", engine="recorded")]),
        ({"samples": 3}, [expert("ann"), expert("dan", **WARM)]),
        ({"samples": 3, "judge_temperature": 1.0}, [expert("ann"), expert("dan")]),
        ({"n": 3}, [expert("ann", **WARM), expert("dan")]),
        ({"n": 3, "temperature": 1.0}, [expert("ann"), expert("dan")]),
    ],
)
def test_what_can_work_is_not_refused(settings: dict[str, Any], experts: list[Expert]) -> None:
    JudgeAggregator(by="dan", **settings).check(named(*experts), 1)


def test_samples_are_needed_only_for_best_of_n() -> None:
    assert JudgeAggregator(by="dan").needs == frozenset()
    assert JudgeAggregator(by="dan", n=2, temperature=1.0).needs == {"n"}
    assert JudgeAggregator(by="dan").experts == {"dan"}
