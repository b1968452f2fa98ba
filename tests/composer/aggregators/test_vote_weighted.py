"""A vote that reads what each voter weighs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.aggregators import make_aggregator
from composer.aggregators.saved import NAME
from composer.aggregators.vote import WeightedVoteAggregator, read_learned_vote
from composer.aggregators.vote.quorum import Staying
from composer.aggregators.vote.weights import CategoryWeights, VoteWeights, load_weights
from composer.errors import ConfigError
from composer.experts import Expert
from tests.composer.aggregators.voting import run_one_by_one

if TYPE_CHECKING:
    from tests.composer.aggregators.conftest import Drive

LEARNED = Path(__file__).parent / "votes" / "learned"
"""Hidden: ann 1.5, ben 1, cas 0.75. Algebra: ann 0.5, ben 2, cas -1, and 0.25 for C."""


def pool(*names: str) -> dict[str, Expert]:
    return {
        name: Expert.model_validate({"name": name, "engine": "scripted", "source": "somewhere"})
        for name in names
    }


def variant(weights: Any, threshold: float, slope: float) -> dict[str, Any]:
    staying = {"intercept": 0.0, "slope": slope}
    return {"weights": weights, "constants": {}, "staying": staying, "threshold": threshold}


def test_the_heaviest_answer_wins_whatever_most_say(drive: Drive) -> None:
    replies = {"ann": "A", "ben": "B", "cas": "C"}

    answer = drive(make_aggregator("vote-learned", {"from": str(LEARNED)}), replies).answer

    assert answer.text == "A"
    assert answer.details["scores"] == {"A": 1.5, "B": 1.0, "C": 0.75}
    assert answer.details["weights"] == {"ann": 1.5, "ben": 1.0, "cas": 0.75}


def test_two_light_voters_outweigh_a_heavy_one(drive: Drive) -> None:
    replies = {"ann": "A", "ben": "B", "cas": "B"}

    answer = drive(
        make_aggregator("vote-weighted", {"from": str(LEARNED.parent / "weighted")}), replies
    ).answer

    assert answer.text == "B"
    assert answer.expert == "ben"


def test_a_known_category_has_weights_of_its_own(drive: Drive) -> None:
    replies = {"ann": "A", "ben": "B", "cas": "A"}
    query = replace(drive.query(), category="algebra")

    answer = drive(read_learned_vote(from_=str(LEARNED)), replies, query=query).answer

    assert answer.text == "B"
    assert answer.details["scores"] == {"B": 2.0, "A": -0.5}


def test_an_option_begins_with_its_constant(drive: Drive) -> None:
    query = replace(drive.query(), category="algebra")

    answer = drive(read_learned_vote(from_=str(LEARNED)), {"ann": "C"}, query=query).answer

    assert answer.details["scores"] == {"C": 0.75}


def test_the_number_of_options_is_not_that_of_another_type_of_answer(drive: Drive) -> None:
    query = replace(drive.query(), answer_type="text")

    answer = drive(read_learned_vote(from_=str(LEARNED)), {"ann": "Rome"}, query=query).answer

    assert answer.details["posterior"]["rome"] == pytest.approx(1 / (1 + math.exp(-1.5)))


def test_a_category_never_met_is_as_good_as_hidden(drive: Drive) -> None:
    query = replace(drive.query(), category="botany")

    answer = drive(read_learned_vote(from_=str(LEARNED)), {"ann": "A"}, query=query).answer

    assert answer.details["scores"] == {"A": 1.5}


def test_the_words_are_the_heaviest_voters(drive: Drive) -> None:
    query = replace(drive.query(), category="algebra")
    replies = {"ann": "B", "ben": "B", "cas": "B"}

    answer = drive(read_learned_vote(from_=str(LEARNED)), replies, query=query).answer

    assert answer.expert == "ben"


def test_an_expert_without_a_weight_is_heard_and_named_but_counts_nothing(drive: Drive) -> None:
    replies = {"ann": "fails", "ben": "fails", "cas": "A", "dan": "B"}

    answer = drive(read_learned_vote(from_=str(LEARNED)), replies).answer

    assert answer.text == "A"
    assert answer.details["unknown"] == ("dan",)
    assert answer.details["tally"]["B"] == ("dan",)
    assert answer.details["scores"]["B"] == 0


def test_among_experts_without_weights_the_ranking_decides(drive: Drive) -> None:
    vote = read_learned_vote(from_=str(LEARNED))
    selection = drive.selection(2, ("dan", "eve"))

    answer = drive(vote, {"dan": "A", "eve": "B"}, selection=selection).answer

    assert answer.text == "A"
    assert "dan ranks highest" in answer.reason


def test_the_posterior_is_over_all_options_given_or_not(drive: Drive) -> None:
    answer = drive(read_learned_vote(from_=str(LEARNED)), {"ann": "A", "ben": "B"}).answer

    e_a, e_b = math.exp(1.5), math.exp(1.0)
    assert answer.details["posterior"]["A"] == pytest.approx(e_a / (e_a + e_b + 8))
    assert answer.details["posterior"]["B"] == pytest.approx(e_b / (e_a + e_b + 8))
    assert answer.reason.endswith("; right with a probability of 0.29")


def test_the_threshold_that_was_fitted_holds_unless_another_is_set(drive: Drive) -> None:
    replies = dict.fromkeys(drive.ranking, "A")

    fitted = run_one_by_one(
        read_learned_vote(from_=str(LEARNED), quorum="posterior"), replies, drive
    )
    told = run_one_by_one(
        read_learned_vote(from_=str(LEARNED), quorum="posterior", threshold=1.0), replies, drive
    )

    assert fitted.answer.asked == ("ann",)
    assert told.answer.asked == ("ann", "ben")


def test_a_known_category_has_a_threshold_of_its_own(drive: Drive) -> None:
    query = replace(drive.query(), category="algebra")
    replies = {"ann": "C", "ben": "A", "cas": "A"}
    vote = read_learned_vote(from_=str(LEARNED), quorum="posterior")

    ran = run_one_by_one(vote, replies, drive, query=query, order=drive.ranking)

    assert ran.answer.asked == ("ann",)


def test_weights_that_know_none_of_the_experts_are_refused() -> None:
    vote = read_learned_vote(from_=str(LEARNED))

    with pytest.raises(ConfigError, match=r"knows none of \['eve'\].*fit it on outcomes") as caught:
        vote.check(pool("eve"), 1)

    assert "\n" not in str(caught.value)


def test_weights_that_know_some_of_the_experts_are_taken() -> None:
    read_learned_vote(from_=str(LEARNED)).check(pool("ann", "eve"), 2)


@pytest.mark.parametrize("name", ["vote-learned", "vote-weighted"])
def test_a_vote_without_weights_says_how_to_fit_some(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"composer fit --aggregator {name} --outcomes OUTCOMES --save DIR"
    ):
        make_aggregator(name, {})


def test_weights_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="holds a 'vote-learned', not a 'vote-weighted'"):
        make_aggregator("vote-weighted", {"from": str(LEARNED)})


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("hidden", None, "'hidden'"),
        ("n_options", "many", "'n_options'"),
        ("answer_type", "letters", "'answer_type'"),
        ("hidden", variant({}, 0.5, 4.0), "no weights for a hidden"),
        ("hidden", variant({"": {}}, 0, 4.0), "'hidden.threshold'"),
        ("hidden", variant({"": {}}, 0.5, 0), "'hidden.staying.slope'"),
    ],
)
def test_saved_weights_that_are_not_whole_are_refused_in_one_line(
    part: str, value: Any, why: str, tmp_path: Path
) -> None:
    whole = json.loads((LEARNED / NAME).read_text())
    whole["learned"][part] = value
    (tmp_path / NAME).write_text(json.dumps(whole))

    with pytest.raises(ConfigError, match=why) as caught:
        load_weights(tmp_path, "vote-learned")

    assert "composer fit --aggregator vote-learned" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    text = (LEARNED / NAME).read_text()
    (tmp_path / NAME).write_text(text.replace("1.5", "NaN"))

    with pytest.raises(ConfigError, match="finite"):
        load_weights(tmp_path, "vote-learned")


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    hidden = CategoryWeights({"": {"ann": 1.5, "ben": -0.25}}, {"A": 0.125}, Staying(-1, 4), 0.5)
    known = CategoryWeights({"algebra": {"ann": 2.0, "ben": 1.0}}, {}, Staying(0, 2), 0.75)
    weights = VoteWeights("vote-weighted", "choice", None, hidden, known, {"a": 1}, {"b": 2})

    WeightedVoteAggregator(weights).save(tmp_path)

    assert load_weights(tmp_path, "vote-weighted") == weights
