"""Which proposals the fuser reads, in which order, and what is left when the judge or it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.judge.rank_and_fuse import RankAndFuseAggregator
from composer.entries import Expert
from composer.errors import AggregationError, ConfigError
from composer.prompts import inject_references
from composer.types import Request
from tests.composer.aggregators.saying import Say, references, run_saying

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

WORTH = "adbc"


def ranking(fused: str | None, *, judged: bool = True) -> Say:
    """Experts answer with their names, a is the best and c the worst; the fuser says `fused`."""

    def say(request: Request, number: int) -> str | None:
        if request.purpose == "propose":
            return request.expert
        if request.purpose == "aggregate":
            return fused
        content = request.messages[1].content
        first, second = (content.partition(f"<reference answer {x}>\n")[2][0] for x in "AB")
        better = "A" if WORTH.index(first) < WORTH.index(second) else "B"
        return json.dumps({"better": better}) if judged else None

    return say


def selection(drive: Drive, names: str = "abcd") -> Any:
    return drive.selection(k=len(names), ranking=(*names, "judge"))


def test_the_fuser_reads_the_best_proposals_in_the_judges_order(drive: Drive) -> None:
    aggregator = RankAndFuseAggregator(by="judge", fuser="zoe", fuse=3)

    ran = run_saying(aggregator, ranking("fused"), drive.query(), selection(drive))

    *_, last = ran.requests
    assert last.id == "q1/aggregate/zoe"
    assert last.final
    assert last.purpose == "aggregate"
    assert last.messages == inject_references(drive.query().messages, ["a", "d", "b"])
    assert [r.id for r in ran.requests if r.final] == [last.id]
    assert ran.answer.text == "fused"
    assert ran.answer.expert == "zoe"
    assert ran.answer.reason == "zoe fused 3 of 4 proposals in the order of judge"
    assert ran.answer.details["ranking"] == ("a", "d", "b", "c")
    assert ran.answer.details["fused"] == ("a", "d", "b")
    assert ran.answer.details["judged"] is True
    assert json.loads(json.dumps(ran.answer.details))


def test_the_judge_fuses_where_no_fuser_is_named(drive: Drive) -> None:
    ran = run_saying(
        RankAndFuseAggregator(by="judge"), ranking("fused"), drive.query(), selection(drive)
    )

    assert ran.requests[-1].expert == "judge"
    assert RankAndFuseAggregator(by="judge").experts == {"judge"}
    assert RankAndFuseAggregator(by="judge", fuser="zoe").experts == {"judge", "zoe"}


def test_fewer_proposals_than_are_to_be_fused_are_all_fused(drive: Drive) -> None:
    ran = run_saying(
        RankAndFuseAggregator(by="judge"), ranking("fused"), drive.query(), selection(drive, "cb")
    )

    assert references(ran.requests[-1]) == ["b", "c"]


def test_a_judge_that_fails_leaves_the_order_of_the_experts(drive: Drive) -> None:
    ran = run_saying(
        RankAndFuseAggregator(by="judge", fuser="zoe", fuse=2),
        ranking("fused", judged=False),
        drive.query(),
        selection(drive, "cba"),
    )

    assert references(ran.requests[-1]) == ["c", "b"]
    assert ran.answer.text == "fused"
    assert ran.answer.details["judged"] is False
    assert ran.answer.reason == (
        "zoe fused 2 of 3 proposals in the order of their experts, because judge failed: it is gone"
    )


@pytest.mark.parametrize(
    ("fused", "why"), [(None, "zoe failed: it is gone"), (" ", "zoe said nothing")]
)
def test_a_fuser_that_fails_leaves_the_best_proposal(
    drive: Drive, fused: str | None, why: str
) -> None:
    ran = run_saying(
        RankAndFuseAggregator(by="judge", fuser="zoe"),
        ranking(fused),
        drive.query(),
        selection(drive, "cba"),
    )

    assert ran.answer.text == "a"
    assert ran.answer.expert == "a"
    assert ran.answer.reason == f"the first proposal, because {why}; ranked in the order of judge"
    assert ran.answer.details["fused"] == ()


def test_a_single_proposal_is_the_answer(drive: Drive) -> None:
    ran = run_saying(
        RankAndFuseAggregator(by="judge"), ranking("fused"), drive.query(), selection(drive, "c")
    )

    assert [r.purpose for r in ran.requests] == ["propose"]
    assert ran.answer.text == "c"
    assert ran.answer.reason == "the only proposal"


def test_proposals_may_be_ranked_by_scores(drive: Drive) -> None:
    said = {"ann": "41", "ben": "42", "judge dan": '{"score": 5}', "aggregate dan": "fused"}

    ran = drive(RankAndFuseAggregator(by="dan", mode="pointwise"), said)

    assert [r.id for r in ran.requests[3:5]] == ["q1/judge/dan/1", "q1/judge/dan/2"]
    assert ran.answer.details["scores"] == {"ann": 5, "ben": 5}


def test_proposals_are_cut_to_the_fusers_context(drive: Drive) -> None:
    said = {"ann": "a" * 900, "ben": "b" * 900, "cas": "c", "judge dan": "?", "zoe": "fused"}
    aggregator = RankAndFuseAggregator(by="dan", fuser="zoe")

    ran = drive(aggregator, said, limits={"zoe": 1400})

    assert ran.answer.text == "fused"
    assert sum(len(m.content) for m in ran.requests[-1].messages) <= 1400 - 256


def test_references_may_be_bounded_below_the_context(drive: Drive) -> None:
    said = {"ann": "a" * 900, "ben": "b" * 900, "judge dan": "?", "aggregate dan": "fused"}
    aggregator = RankAndFuseAggregator(by="dan", max_reference_tokens=1000)

    ran = drive(aggregator, said)

    assert sum(len(m.content) for m in ran.requests[-1].messages) <= 1000 + len("What is 6 x 7?")


def test_the_judge_neither_proposes_nor_is_fused(drive: Drive) -> None:
    said = {"ann": "41", "ben": "42", "cas": "43", "dan": "44", "judge ben": "?"}

    ran = drive(RankAndFuseAggregator(by="ben"), {**said, "aggregate ben": "fused"})

    assert references(ran.requests[-1]) == ["41", "43", "44"]


def test_silence_everywhere_is_an_error(drive: Drive) -> None:
    with pytest.raises(AggregationError, match="ann: it is gone; ben: it is gone; cas: it is gone"):
        drive(RankAndFuseAggregator(by="dan"), {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fuse": 1}, "'fuse' is 1; set 2 or more, or name the aggregator 'judge'"),
        ({"max_reference_tokens": 0}, "'max_reference_tokens' is 0; set 1 or more"),
        ({"samples": 0}, "'samples' is 0"),
    ],
)
def test_a_value_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_aggregator("rank-and-fuse", {"by": "dan", **settings})


def test_a_judge_that_is_alone_and_an_unknown_fuser_are_refused_when_read() -> None:
    ann, dan = (Expert(name=name, engine="scripted") for name in ("ann", "dan"))

    RankAndFuseAggregator(by="dan", fuser="ann").check({"ann": ann, "dan": dan}, 1)
    with pytest.raises(ConfigError, match="'dan' is the only expert and would judge itself"):
        RankAndFuseAggregator(by="dan").check({"dan": dan}, 1)
    with pytest.raises(ConfigError, match="'fuser': no expert 'danny'; did you mean 'dan'"):
        RankAndFuseAggregator(by="dan", fuser="danny").check({"ann": ann, "dan": dan}, 1)
