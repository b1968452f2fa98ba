"""A vote that ends early ends as the full one would."""

from __future__ import annotations

import itertools

from hypothesis import assume, example, given
from hypothesis import strategies as st

from composer.aggregators.vote import WeightedVoteAggregator
from composer.aggregators.vote.quorum import Quorum, Rules, Staying, Ties, is_decided, lead_share
from composer.aggregators.vote.tally import UNIT, Weighing, count
from composer.aggregators.vote.weights import CategoryWeights, VoteWeights
from composer.errors import AggregationError
from tests.composer.aggregators.conftest import Drive
from tests.composer.aggregators.voting import run_one_by_one

EXPERTS: tuple[str, ...] = ("ann", "ben", "cas", "dan", "eve")
RANK = {expert: place for place, expert in enumerate(EXPERTS)}
WORDS = {"A": "The answer is (A).", "B": "(B)", "C": "C", "-": "Who knows?", "x": "fails"}

# Small whole and half weights, so that ties are common.
WEIGHTS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5]), min_size=5, max_size=5)
SAID = st.lists(st.sampled_from(sorted(WORDS)), min_size=5, max_size=5)
CONSTANTS = st.dictionaries(st.sampled_from("ABC"), st.sampled_from([-0.5, 0.5, 1.0]))
ORDERS = st.permutations(EXPERTS)
TIES = st.sampled_from(["rank", "abstain"])


def learned(weights: list[float], constants: dict[str, float]) -> VoteWeights:
    by_expert: dict[str, float] = dict(zip(EXPERTS, weights, strict=True))
    hidden = CategoryWeights({"": by_expert}, constants, Staying(0.0, 4.0), threshold=0.9)
    return VoteWeights("vote-learned", "choice", 10, hidden, None, {}, {})


def outcome(
    weights: VoteWeights,
    said: list[str],
    *,
    quorum: Quorum | None,
    ties: Ties,
    order: list[str] | None = None,
    threshold: float | None = None,
) -> tuple[str | None, tuple[str, ...]]:
    """The answer, None for a tie or none at all, and who was waited for."""
    drive = Drive(ranking=EXPERTS, k=5)
    replies = {e: WORDS[s] for e, s in zip(EXPERTS, said, strict=True)}
    vote = WeightedVoteAggregator(weights, quorum=quorum, threshold=threshold, ties=ties)
    try:
        answer = run_one_by_one(vote, replies, drive, order=order).answer
    except AggregationError:
        return None, EXPERTS
    return answer.text, answer.asked


@given(WEIGHTS, CONSTANTS, SAID, ORDERS, TIES)
@example([1.0, 1.0, 0.5, 0.5, 0.0], {}, ["A", "B", "x", "-", "B"], list(EXPERTS), "rank")
@example([1.0, 0.5, -1.0, 0.0, 0.0], {}, ["A", "B", "A", "-", "-"], list(EXPERTS), "rank")
@example([0.0, 1.0, 1.0, 0.0, 0.0], {}, ["C", "B", "C", "-", "-"], [*EXPERTS[1:], "ann"], "rank")
@example([1.0, 1.0, 0.0, 0.0, 0.0], {}, ["B", "A", "-", "-", "B"], [*EXPERTS[::-1]], "abstain")
def test_an_exact_quorum_gives_the_full_votes_answer_in_any_order(
    weights: list[float],
    constants: dict[str, float],
    said: list[str],
    order: list[str],
    ties: Ties,
) -> None:
    vote = learned(weights, constants)

    full, _ = outcome(vote, said, quorum=None, ties=ties)
    early, _ = outcome(vote, said, quorum="exact", ties=ties, order=order)

    assert early == full


@given(WEIGHTS, CONSTANTS, SAID, ORDERS, st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_a_higher_threshold_never_waits_for_fewer(
    weights: list[float],
    constants: dict[str, float],
    said: list[str],
    order: list[str],
    thresholds: tuple[float, float],
) -> None:
    vote = learned(weights, constants)

    _, few = outcome(
        vote, said, quorum="posterior", ties="rank", order=order, threshold=min(thresholds)
    )
    _, many = outcome(
        vote, said, quorum="posterior", ties="rank", order=order, threshold=max(thresholds)
    )

    assert few == many[: len(few)]


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5]), min_size=5, max_size=5), SAID, st.integers(1, 5)
)
def test_a_vote_is_decided_exactly_when_no_later_votes_could_change_it(
    weights: list[float], said: list[str], n_answered: int
) -> None:
    weighing = Weighing({e: int(w * UNIT) for e, w in zip(EXPERTS, weights, strict=True)})
    votes = {e: s for e, s in zip(EXPERTS[:n_answered], said, strict=False) if s in "ABC"}
    assume(votes)
    out = EXPERTS[n_answered:]
    now = count(votes, weighing)

    decided = is_decided(now, out, weighing, rank=RANK, rules=Rules(1.0, "rank"))

    ends = (
        count({**votes, **{e: s for e, s in zip(out, rest, strict=True) if s != "-"}}, weighing)
        for rest in itertools.product("ABCD-", repeat=len(out))
    )
    assert decided == all(end.winner == now.winner for end in ends)


def test_the_heaviest_are_asked_first() -> None:
    drive = Drive(ranking=EXPERTS, k=5)
    vote = WeightedVoteAggregator(learned([0.5, 1.0, -2.0, 0.0, 1.0], {}), quorum="exact")

    ran = run_one_by_one(vote, dict.fromkeys(EXPERTS, "(B)"), drive)

    assert [r.expert for r in ran.requests] == ["cas", "ben", "eve", "ann", "dan"]


def test_an_option_nobody_has_given_yet_may_still_win_by_its_constant() -> None:
    weighing = Weighing({"ann": 1 * UNIT, "ben": UNIT // 2}, constants={"C": UNIT})
    tally = count({"ann": "A"}, weighing)

    assert not is_decided(tally, ["ben"], weighing, rank=RANK, rules=Rules(1.0, "rank"))
    assert is_decided(tally, ["ben"], Weighing(weighing.weights), rank=RANK, rules=Rules(1, "rank"))


@given(st.floats(-3, 3), st.floats(0.01, 20), st.floats(0.01, 1))
def test_a_winner_is_as_likely_to_stay_as_the_least_lead_for_it_says(
    intercept: float, slope: float, probability: float
) -> None:
    staying = Staying(intercept, slope)

    share = staying.share(probability)

    assert 0 <= share <= 1
    assert staying.probability(share) >= probability - 1e-9
    assert share == 0 or staying.probability(share * 0.99 - 1e-6) < probability


def test_a_lead_is_a_share_of_the_weights_still_out() -> None:
    weighing = Weighing({"ann": 3 * UNIT, "ben": UNIT, "cas": 4 * UNIT})
    tally = count({"ann": "A", "ben": "B"}, weighing)

    assert lead_share(tally, ["cas"], weighing) == 0.5
    assert lead_share(tally, [], weighing) == float("inf")


def test_an_answer_says_how_likely_it_stays() -> None:
    drive = Drive(ranking=EXPERTS, k=5)
    vote = WeightedVoteAggregator(learned([2.0, 1.0, 1.0, 1.0, 1.0], {}), quorum="posterior")

    answer = run_one_by_one(vote, dict.fromkeys(EXPERTS, "(B)"), drive).answer

    assert answer.asked == ("ann", "ben")
    assert answer.details["stays"] == 1
    assert answer.reason.startswith("2 of 2 votes, without waiting for cas, dan, eve: it stays")
