"""A group answers: whom its request names, and what happens where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from composer.aggregators.cross_attention import CrossAttentionAggregator
from composer.entries import Expert
from composer.errors import ConfigError

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

EXPERTS = {
    "ann": Expert(name="ann", source="org/ann"),
    "ben": Expert(name="ben", source="org/ben"),
    "cas": Expert(name="cas", source="org/cas"),
    "dan": Expert(name="dan", source="org/dan"),
    "all": Expert(name="all", engine="latent", source="trained", members=("ben", "ann", "dan")),
}
TOGETHER = {"all": "oslo", "ann": "alone"}


def checked(primary: str | None = None) -> CrossAttentionAggregator:
    aggregator = CrossAttentionAggregator("all", primary=primary)
    aggregator.check(EXPERTS, 1)
    return aggregator


def test_the_first_choice_writes_and_the_other_choices_are_its_peers(drive: Drive) -> None:
    ran = drive(checked(), TOGETHER, selection=drive.selection(k=4))

    (request,) = ran.requests
    assert (request.expert, request.peers, request.mix) == ("all", ("ann", "ben", "dan"), "attend")
    assert request.final
    assert ran.answer.text == "oslo"
    assert ran.answer.reason == "ann wrote it, attending to ben, dan"
    assert ran.answer.details == {"primary": "ann", "peers": ["ben", "dan"]}


def test_a_choice_without_a_peer_in_the_group_has_all_members_for_peers(drive: Drive) -> None:
    for k, ranking in ((1, None), (2, ("ann", "cas"))):
        ran = drive(checked(), TOGETHER, selection=drive.selection(k=k, ranking=ranking))
        assert ran.requests[0].peers == ("ann", "ben", "dan")


def test_a_choice_outside_the_group_leaves_the_members_in_their_order(drive: Drive) -> None:
    ran = drive(checked(), TOGETHER, selection=drive.selection(k=1, ranking=("cas",)))

    assert ran.requests[0].peers == ("ben", "ann", "dan")


def test_a_primary_that_is_named_writes_whoever_is_chosen(drive: Drive) -> None:
    ran = drive(checked("dan"), TOGETHER, selection=drive.selection(k=2))

    assert ran.requests[0].peers == ("dan", "ann", "ben")


def test_where_the_group_fails_the_ranking_answers_alone(drive: Drive) -> None:
    ran = drive(checked(), {"ben": "alone"})

    assert [r.expert for r in ran.requests] == ["all", "ann", "ben"]
    assert ran.answer.expert == "ben"
    assert ran.answer.reason == "ben wrote it alone, because the group failed: it is gone"
    assert [f.expert for f in ran.answer.failures] == ["all", "ann"]


@pytest.mark.parametrize(
    ("by", "primary", "message"),
    [
        ("al", None, "no expert 'al'; did you mean 'all'"),
        ("ann", None, r"'ann' runs on 'vllm' and is no group .*; name one of \['all'\]"),
        ("all", "cas", "no member 'cas'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(
    by: str, primary: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossAttentionAggregator(by, primary=primary).check(EXPERTS, 1)
