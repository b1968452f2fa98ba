from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from composer.choose import choose
from composer.errors import RoutingError
from composer.experts import ChooseRule
from composer.types import Evidence, Scores, Selection

if TYPE_CHECKING:
    from composer.types import Float32Array

STEP = 64
"""All numbers are multiples of 1 / STEP: sums of them are exact, so that ties are ties."""


@dataclass(frozen=True)
class Situation:
    """A batch to choose for."""

    scores: Scores
    cost_usd: Float32Array
    load_s: Float32Array
    unavailable: frozenset[str]

    def choose(self, **rule: float | str | None) -> list[Selection]:
        return choose(
            self.scores,
            [f"q{row}" for row in range(len(self.scores.quality))],
            ChooseRule.model_validate(rule),
            router="told",
            cost_usd=self.cost_usd,
            load_s=self.load_s,
            unavailable=self.unavailable,
        )

    def utility(self, rule: ChooseRule) -> dict[tuple[int, str], float]:
        """By query row and expert; experts of unknown quality are left out."""
        return {
            (row, name): float(
                self.scores.quality[row, column]
                - rule.cost_weight * self.cost_usd[row, column]
                - rule.load_weight * self.load_s[column]
            )
            for row in range(len(self.scores.quality))
            for column, name in enumerate(self.scores.experts)
            if not np.isnan(self.scores.quality[row, column])
        }


def scores(*rows: tuple[float, ...]) -> Scores:
    """Of experts a, b, c, ..."""
    quality = np.array(rows, dtype=np.float32)
    names = tuple("abcdefgh"[: quality.shape[1]])
    return Scores(names, quality, lambda row, column: Evidence(f"cell {row},{column}"))


UNKNOWN = float("nan")
amounts = st.integers(0, STEP).map(lambda i: i / STEP)
weights = st.integers(0, 32).map(lambda i: i / 4)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Someone is available, and something is known of an available expert in each row."""
    m, n = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    row = st.lists(amounts | st.just(UNKNOWN), min_size=m, max_size=m).map(tuple)
    given_scores = scores(*draw(st.lists(row, min_size=n, max_size=n)))
    costs = draw(st.lists(st.lists(amounts, min_size=m, max_size=m), min_size=n, max_size=n))
    loads = draw(st.lists(amounts, min_size=m, max_size=m))
    gone = draw(st.frozensets(st.sampled_from(given_scores.experts)))
    here = [c for c, name in enumerate(given_scores.experts) if name not in gone]
    assume(bool(here) and bool(np.isfinite(given_scores.quality[:, here]).any(axis=1).all()))
    return Situation(given_scores, np.array(costs, np.float32), np.array(loads, np.float32), gone)


@settings(deadline=None)
@given(situations(), st.integers(1, 8), weights, weights)
def test_the_k_best_known_and_available_experts_are_chosen(
    situation: Situation, k: int, cost_weight: float, load_weight: float
) -> None:
    rule = ChooseRule(k=k, cost_weight=cost_weight, load_weight=load_weight)
    utility = situation.utility(rule)
    available = [n for n in situation.scores.experts if n not in situation.unavailable]
    selections = situation.choose(k=k, cost_weight=cost_weight, load_weight=load_weight)
    assert [s.query_id for s in selections] == [f"q{row}" for row in range(len(selections))]
    for row, selection in enumerate(selections):
        chosen = [choice.expert for choice in selection.choices]
        known = [name for name in available if (row, name) in utility]
        assert len(set(chosen)) == len(chosen) == min(k, len(known))
        assert sorted(selection.ranking) == sorted(available)
        assert list(selection.ranking[: len(chosen)]) == chosen
        assert set(selection.ranking[: len(known)]) == set(known)
        # Ties go to the earlier column, so the order is fully determined.
        best = sorted(known, key=lambda n: (-utility[row, n], situation.scores.experts.index(n)))
        assert list(selection.ranking[: len(known)]) == best
        for choice in selection.choices:
            column = situation.scores.experts.index(choice.expert)
            assert choice.utility == utility[row, choice.expert]
            assert choice.quality == situation.scores.quality[row, column]
            assert choice.evidence.reason == f"cell {row},{column}"
        assert (selection.shortfall is None) == (len(chosen) == k)


@settings(deadline=None)
@given(situations(), st.integers(1, 6), weights, weights)
def test_a_higher_cost_weight_never_makes_the_choice_dearer(
    situation: Situation, k: int, weight: float, more: float
) -> None:
    def total_cost(cost_weight: float) -> list[float]:
        columns = situation.scores.experts.index
        return [
            sum(float(situation.cost_usd[row, columns(c.expert)]) for c in selection.choices)
            for row, selection in enumerate(situation.choose(k=k, cost_weight=cost_weight))
        ]

    for before, after in zip(total_cost(weight), total_cost(weight + more), strict=True):
        assert after <= before


@settings(deadline=None)
@given(situations(), st.integers(1, 6), amounts, st.data())
def test_the_fallback_comes_first_exactly_when_no_expert_reaches_the_threshold(
    situation: Situation, k: int, threshold: float, data: st.DataObject
) -> None:
    available = [n for n in situation.scores.experts if n not in situation.unavailable]
    fallback = data.draw(st.sampled_from(available))
    plain = situation.choose(k=k)
    selections = situation.choose(k=k, threshold=threshold, fallback=fallback)
    here = [situation.scores.experts.index(n) for n in available]
    best = np.nanmax(situation.scores.quality[:, here], axis=1)
    for row, (before, after) in enumerate(zip(plain, selections, strict=True)):
        assert sorted(after.ranking) == sorted(available)
        assert [c.expert for c in after.choices] == list(after.ranking[: len(after.choices)])
        if best[row] >= threshold:
            assert after.ranking == before.ranking
            assert after.reason == before.reason
        else:
            assert after.ranking[0] == fallback
            assert after.ranking[1:] == tuple(n for n in before.ranking if n != fallback)
            assert f"below the threshold {threshold:.3f}" in after.reason


@settings(deadline=None)
@given(situations(), st.integers(1, 6))
def test_a_batch_is_chosen_for_as_each_query_alone(situation: Situation, k: int) -> None:
    together = situation.choose(k=k, cost_weight=1.0)
    for row, selection in enumerate(together):
        alone = Situation(
            scores(tuple(situation.scores.quality[row])),
            situation.cost_usd[row : row + 1],
            situation.load_s,
            situation.unavailable,
        ).choose(k=k, cost_weight=1.0)[0]
        assert alone.ranking == selection.ranking
        assert len(alone.choices) == len(selection.choices)


def test_without_figures_cost_and_loading_weigh_nothing() -> None:
    rule = ChooseRule(k=1, cost_weight=100, load_weight=100)
    (selection,) = choose(scores((0.25, 0.5)), ["q"], rule, router="told")
    assert selection.choices[0].expert == "b"
    assert selection.choices[0].utility == 0.5


def test_all_scores_are_kept() -> None:
    given_scores = scores((0.25, UNKNOWN, 0.5))
    (selection,) = choose(given_scores, ["q"], ChooseRule(), router="told")
    assert selection.experts == ("a", "b", "c")
    np.testing.assert_array_equal(selection.quality, given_scores.quality[0])


def test_a_shortfall_names_who_is_unavailable() -> None:
    rule = ChooseRule(k=2)
    (selection,) = choose(scores((0.25, 0.5)), ["q"], rule, router="told", unavailable={"a"})
    assert selection.shortfall == "1 of 2 experts: unavailable: a"


def test_a_shortfall_of_knowledge_is_said() -> None:
    (selection,) = choose(scores((0.25, UNKNOWN)), ["q"], ChooseRule(k=2), router="told")
    assert selection.shortfall == "1 of 2 experts: the router knows no more"


def test_the_reason_names_the_router() -> None:
    (one,) = choose(scores((0.25, 0.5)), ["q"], ChooseRule(), router="told")
    (two,) = choose(scores((0.25, 0.5)), ["q"], ChooseRule(k=2), router="told")
    assert (one.reason, two.reason) == ("best by told", "the 2 best by told")


def test_a_fallback_takes_what_nothing_is_known_of() -> None:
    rule = ChooseRule(k=2, threshold=0.5, fallback="b")
    (selection,) = choose(scores((UNKNOWN, UNKNOWN)), ["q"], rule, router="told")
    (choice,) = selection.choices
    assert (choice.expert, choice.quality, choice.utility) == ("b", None, None)
    assert selection.ranking == ("b", "a")
    assert selection.reason == "fallback 'b': nothing is known of any expert here"


def test_a_fallback_that_is_unavailable_leaves_the_choice_to_the_router() -> None:
    rule = ChooseRule(threshold=0.5, fallback="b")
    (selection,) = choose(scores((0.25, 0.25)), ["q"], rule, router="told", unavailable={"b"})
    assert selection.ranking == ("a",)


@pytest.mark.parametrize("fallback", [None, "a"])
def test_nobody_available_is_an_error_whatever_the_fallback(fallback: str | None) -> None:
    rule = ChooseRule(threshold=0.5 if fallback else None, fallback=fallback)
    with pytest.raises(RoutingError, match=r"none of the experts \['a', 'b'\] is available now"):
        choose(scores((0.25, 0.5)), ["q"], rule, router="told", unavailable={"a", "b"})


def test_a_query_of_which_nothing_is_known_is_refused_and_the_rest_are_chosen_for() -> None:
    rows = scores((0.25, 0.5), (0.5, UNKNOWN))
    taken, refused = choose(rows, ["q", "r"], ChooseRule(), router="told", unavailable={"a"})
    assert [choice.expert for choice in taken.choices] == ["b"]
    assert (refused.query_id, refused.choices, refused.ranking) == ("r", (), ())
    assert refused.reason == (
        "the router 'told' knows nothing of any available expert; give experts examples or a "
        "description, or set choose.fallback"
    )


def test_ties_among_many_experts_keep_the_order_of_the_columns() -> None:
    names = tuple(f"expert-{column}" for column in range(200))
    quality = np.tile(np.array([0.25, 0.75], np.float32), (1, 100))
    many = Scores(names, quality, lambda row, column: Evidence("as told"))
    (selection,) = choose(many, ["q"], ChooseRule(k=2), router="told")
    assert selection.ranking == (*names[1::2], *names[::2])


def test_a_choice_that_hangs_on_the_order_of_the_columns_is_said_to_be_tied() -> None:
    rows = scores((0.5, 0.5, 0.25), (0.25, 0.25, 0.25), (0.5, 0.25, 0.25))
    reasons = [s.reason for s in choose(rows, ["q", "r", "s"], ChooseRule(), router="told")]
    assert reasons == [
        "best by told, tied with 1 other",
        "best by told, tied with 2 others",
        "best by told",
    ]


def test_a_tie_among_the_chosen_decides_nothing() -> None:
    (selection,) = choose(scores((0.5, 0.5, 0.25)), ["q"], ChooseRule(k=2), router="told")
    assert selection.reason == "the 2 best by told"


def test_a_tie_is_one_of_utilities() -> None:
    cost = np.array([[0.25, 0.5]], np.float32)
    rule = ChooseRule(cost_weight=1)
    (selection,) = choose(scores((0.25, 0.5)), ["q"], rule, router="told", cost_usd=cost)
    assert selection.reason == "best by told, tied with 1 other"


def test_an_expert_that_is_gone_or_unknown_ties_with_nobody() -> None:
    (selection,) = choose(
        scores((0.5, UNKNOWN, 0.5)), ["q"], ChooseRule(), router="told", unavailable={"c"}
    )
    assert selection.reason == "best by told"


@settings(deadline=None)
@given(situations(), st.integers(1, 6), weights)
def test_the_margin_is_the_lead_in_utility_over_the_best_other_expert(
    situation: Situation, k: int, cost_weight: float
) -> None:
    utility = situation.utility(ChooseRule(cost_weight=cost_weight))
    for row, selection in enumerate(situation.choose(k=k, cost_weight=cost_weight)):
        known = sorted(
            (utility[row, n] for n in selection.ranking if (row, n) in utility), reverse=True
        )
        assert selection.margin == (known[0] - known[1] if len(known) > 1 else None)


def test_a_fallback_behind_the_best_has_a_margin_below_zero() -> None:
    rule = ChooseRule(threshold=0.75, fallback="b")
    (selection,) = choose(scores((0.5, 0.25)), ["q"], rule, router="told")
    assert selection.margin == -0.25


def test_a_query_that_no_expert_is_good_enough_for_is_refused_when_the_rule_abstains() -> None:
    rule = ChooseRule(k=3, threshold=0.5, abstain=True)
    refused, taken = choose(scores((0.25, 0.125), (0.5, 0.25)), ["q", "r"], rule, router="told")
    assert (refused.query_id, refused.choices, refused.ranking) == ("q", (), ())
    assert (refused.shortfall, refused.margin, refused.what_if()) == (None, None, ())
    assert refused.reason == (
        "abstained: the best predicted quality 0.250 is below the threshold 0.500; "
        "lower choose.threshold or set choose.fallback"
    )
    np.testing.assert_array_equal(refused.quality, [0.25, 0.125])
    assert [choice.expert for choice in taken.choices] == ["a", "b"]


def test_a_fallback_takes_the_query_before_the_rule_abstains() -> None:
    rule = ChooseRule(threshold=0.5, fallback="b", abstain=True)
    (here,) = choose(scores((0.25, 0.125)), ["q"], rule, router="told")
    (gone,) = choose(scores((0.25, 0.125)), ["q"], rule, router="told", unavailable={"b"})
    assert [choice.expert for choice in here.choices] == ["b"]
    assert gone.choices == ()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"threshold": 0.5}, "changes nothing; name a 'fallback' or set 'abstain: true'"),
        ({"threshold": 0.5, "abstain": False}, "changes nothing"),
        ({"abstain": True}, "nothing to measure by; set a 'threshold'"),
        ({"abstain": True, "fallback": "b"}, "set a 'threshold'"),
    ],
)
def test_a_rule_that_cannot_have_an_effect_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChooseRule.model_validate(rule)


def test_an_expert_of_unknown_cost_is_unknown_only_where_cost_weighs() -> None:
    cost = np.array([[UNKNOWN, 0.5]], np.float32)
    (free,) = choose(scores((0.5, 0.25)), ["q"], ChooseRule(), router="told", cost_usd=cost)
    weighed = ChooseRule(cost_weight=0.25)
    (dear,) = choose(scores((0.5, 0.25)), ["q"], weighed, router="told", cost_usd=cost)
    assert free.choices[0].expert == "a"
    assert (dear.choices[0].expert, dear.choices[0].utility) == ("b", 0.125)


def test_a_fallback_of_unknown_cost_has_no_utility() -> None:
    rule = ChooseRule(cost_weight=1, threshold=0.75, fallback="a")
    cost = np.array([[UNKNOWN, 0.5]], np.float32)
    (selection,) = choose(scores((0.5, 0.25)), ["q"], rule, router="told", cost_usd=cost)
    (choice,) = selection.choices
    assert (choice.expert, choice.quality, choice.utility) == ("a", 0.5, None)
    assert selection.margin is None


def test_what_would_change_the_choice_is_found_only_when_asked_for() -> None:
    asked: list[int] = []

    def why(row: int, column: int) -> Evidence:
        asked.append(column)
        return Evidence("as told")

    quality = np.array([[0.5, 0.25]], np.float32)
    (selection,) = choose(
        Scores(("a", "b"), quality, why),
        ["q"],
        ChooseRule(),
        router="told",
        cost_usd=np.array([[0.75, 0.25]], np.float32),
    )
    assert asked == []
    (counterfactual,) = selection.what_if()
    assert (counterfactual.expert, counterfactual.turn) == ("b", 0.5)


def test_no_weight_changes_whom_a_fallback_takes_from() -> None:
    rule = ChooseRule(threshold=0.75, fallback="b")
    cost = np.array([[0.75, 0.25]], np.float32)
    (selection,) = choose(scores((0.5, 0.25)), ["q"], rule, router="told", cost_usd=cost)
    assert selection.what_if() == ()
