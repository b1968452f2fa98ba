"""What every aggregator promises, over all in the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import AGGREGATORS, make_aggregator
from composer.errors import AggregationError, ConfigError
from composer.flow import FlowRun

if TYPE_CHECKING:
    from composer.protocols import Aggregator
    from tests.composer.aggregators.conftest import Drive

ALL = pytest.mark.parametrize("name", sorted(AGGREGATORS))
SETTINGS: dict[str, dict[str, Any]] = {
    "cascade": {"confidence": "votes", "thresholds": [0.6, 0.6], "order": "ranked"},
    "cross-attention": {"by": "ann"},
    "judge": {"by": "dan"},
    "rank-and-fuse": {"by": "dan"},
    "refine": {"by": "dan"},
    "vote-learned": {"from": str(Path(__file__).parent / "votes" / "learned")},
    "vote-weighted": {"from": str(Path(__file__).parent / "votes" / "weighted")},
}
"""What an aggregator cannot be made without."""

SAYS_B: dict[str, str] = dict.fromkeys(("ann", "ben", "cas", "dan"), "The answer is (B).")
REPLIES: list[dict[str, str]] = [
    SAYS_B,
    {**SAYS_B, "ann": "fails"},
    {**SAYS_B, "ben": "fails", "cas": "The answer is (C)."},
    {**SAYS_B, "aggregate ann": "fails"},
    {"dan": "(A)", "cas": "(A)"},
    {**SAYS_B, "judge dan": '{"score": 7}'},
]


def make(name: str) -> Aggregator:
    return make_aggregator(name, SETTINGS.get(name, {}))


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_equal_outcomes_give_equal_requests_and_answers(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    first = drive(make(name), replies)
    second = drive(make(name), replies)

    assert first == second


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_one_aggregator_serves_many_queries(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    aggregator = make(name)

    assert drive(aggregator, replies) == drive(aggregator, replies)


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_outcomes_that_arrive_backwards_change_nothing(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    forwards = drive(make(name), replies)
    backwards = drive(make(name), replies, last_first=True)

    assert forwards == backwards


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_only_experts_of_the_ranking_are_asked(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    ran = drive(make(name), replies)

    assert {r.expert for r in ran.requests} <= set(drive.ranking)


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_request_ids_are_distinct_and_begin_with_the_query_id(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    ids = [r.id for r in drive(make(name), replies).requests]

    assert len(ids) == len(set(ids))
    assert all(i.startswith("q1/") for i in ids)


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_the_streamed_text_is_the_answer_where_its_request_succeeded(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    ran = drive(make(name), replies)

    final = [r.id for r in ran.requests if r.final]
    texts = {c.request_id: c.text for c in ran.answer.completions}
    if final and final[-1] in texts:
        assert texts[final[-1]] == ran.answer.text


@ALL
@pytest.mark.parametrize("replies", REPLIES)
def test_the_answer_says_whose_it_is_and_how_it_came_about(
    name: str, replies: dict[str, str], drive: Drive
) -> None:
    answer = drive(make(name), replies).answer

    assert answer.query_id == "q1"
    assert answer.aggregator == name
    assert answer.finish_reason == "stop"
    assert answer.expert in {c.expert for c in answer.completions}
    assert answer.reason
    assert "\n" not in answer.reason


@ALL
def test_a_failed_expert_is_reported_and_the_rest_answer(name: str, drive: Drive) -> None:
    answer = drive(make(name), {**SAYS_B, "ann": "fails"}).answer

    assert answer.text
    assert {f.expert for f in answer.failures} == {"ann"}


@ALL
def test_a_prompt_too_long_for_one_expert_is_reported_without_being_sent(
    name: str, drive: Drive
) -> None:
    ran = drive(make(name), SAYS_B, limits={"ann": 5})

    assert "ann" not in {r.expert for r in ran.requests}
    assert {(f.expert, f.kind) for f in ran.answer.failures} == {("ann", "too_long")}


@ALL
def test_when_all_fail_the_error_names_each_expert(name: str, drive: Drive) -> None:
    with pytest.raises(AggregationError) as caught:
        drive(make(name), {})

    message = str(caught.value)
    assert all(f"{expert}: it is gone" in message for expert in ("ann", "ben", "cas"))
    assert "\n" not in message


@ALL
def test_every_request_that_was_answered_is_accounted_for(name: str, drive: Drive) -> None:
    ran = drive(make(name), SAYS_B)

    assert [c.request_id for c in ran.answer.completions] == [r.id for r in ran.requests]
    assert ran.answer.prompt_tokens == 7 * len(ran.requests)


@ALL
def test_a_single_choice_is_enough(name: str, drive: Drive) -> None:
    answer = drive(make(name), SAYS_B, selection=drive.selection(k=1)).answer

    assert "B" in answer.text


@ALL
def test_closing_a_flow_half_way_raises_nothing(name: str, drive: Drive) -> None:
    tools = drive.tools()
    run = FlowRun(make(name).combine(drive.query(), drive.selection(), tools))
    requests = run.start()

    run.close()

    assert requests
    assert not run.is_done


@ALL
def test_closing_a_flow_that_was_never_started_raises_nothing(name: str, drive: Drive) -> None:
    tools = drive.tools()

    FlowRun(make(name).combine(drive.query(), drive.selection(), tools)).close()


@ALL
def test_an_aggregator_goes_by_its_name_in_the_table(name: str) -> None:
    aggregator = make(name)

    assert aggregator.name == name
    assert isinstance(aggregator.needs, frozenset)


@ALL
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"aggregator '{name}' has no setting 'colour'"):
        make_aggregator(name, {"colour": "red"})


@ALL
def test_the_users_turn_reaches_every_expert_unchanged(name: str, drive: Drive) -> None:
    query = drive.query("Is it (B)?")
    ran = drive(make(name), SAYS_B, query=query)

    asked = [r for r in ran.requests if r.purpose != "judge"]
    assert all(r.messages[-1] == query.messages[-1] for r in asked)


def test_an_unknown_name_comes_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="no aggregator 'votes'; did you mean 'vote'"):
        make_aggregator("votes", {})


@pytest.mark.parametrize(
    ("name", "settings", "setting"),
    [
        ("vote", {"answer_type": "letters"}, "answer_type"),
        ("vote", {"answer_type": 3}, "answer_type"),
        ("synthesis", {"by": 3}, "by"),
        ("synthesis", {"max_reference_tokens": "many"}, "max_reference_tokens"),
        ("synthesis", {"max_reference_tokens": True}, "max_reference_tokens"),
        ("synthesis", {"max_reference_tokens": 0}, "max_reference_tokens"),
    ],
)
def test_a_setting_of_another_type_is_refused(
    name: str, settings: dict[str, Any], setting: str
) -> None:
    with pytest.raises(ConfigError, match=f"aggregator '{name}'.*{setting}") as caught:
        make_aggregator(name, settings)

    assert "\n" not in str(caught.value)


def test_a_setting_that_it_cannot_do_without_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="aggregator 'judge' needs the setting 'by'; add it"):
        make_aggregator("judge", {})


def test_a_misspelt_setting_comes_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'answer_type'"):
        make_aggregator("vote", {"answer_typ": "number"})


def test_settings_of_the_right_type_are_taken() -> None:
    assert make_aggregator("vote", {"answer_type": "number"}).name == "vote"
    assert make_aggregator("synthesis", {"by": "ann", "max_reference_tokens": 100}).name
    assert make_aggregator("synthesis", {"by": None}).name == "synthesis"
