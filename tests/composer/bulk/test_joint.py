"""One budget for a batch, and experts that enough of its queries get."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from composer.allocate import Budget
from composer.bulk.joint import JointChoice, allotted, share_budget, share_choices
from composer.bulk.limits import Limits
from composer.choose import choose
from composer.errors import ConfigError
from composer.experts import ChooseRule
from composer.types import Evidence, Scores, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

EXPERTS = ("ann", "ben", "cas")
PLAIN = ChooseRule()


def scores(quality: Any) -> Scores:
    return Scores(EXPERTS, np.array(quality, np.float32), lambda row, column: Evidence("made up"))


def usd(amount: float, min_share: float = 0.0) -> Limits:
    return Limits(Budget("usd", amount), min_share)


def chosen(
    scored: Scores, cost: Float64Array, rule: ChooseRule, limits: Limits
) -> tuple[list[Selection], JointChoice]:
    columns, joint = share_budget(scored, cost, rule, limits)
    rows = [Scores(EXPERTS, row[None], scored.why) for row in scored.quality]
    selections = [
        allotted(row, f"q{i}", rule, joint, column, router="made", cost=cost[i : i + 1])
        for i, (row, column) in enumerate(zip(rows, columns.tolist(), strict=True))
    ]
    return selections, joint


def first(selections: list[Selection]) -> list[str | None]:
    return [s.choices[0].expert if s.choices else None for s in selections]


def prices(n: int) -> Float64Array:
    return np.tile([1.0, 2.0, 4.0], (n, 1))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Scores, Float64Array, ChooseRule]:
    n = draw(st.integers(1, 25))
    cell = st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.9, 1.0, np.nan])
    quality = draw(st.lists(st.tuples(cell, cell, cell), min_size=n, max_size=n))
    amount = st.floats(0.001, 5)
    cost = np.array(draw(st.lists(st.tuples(amount, amount, amount), min_size=n, max_size=n)))
    fallback = draw(st.sampled_from([None, "cas"]))
    threshold = draw(st.sampled_from([None, 0.6])) if fallback else None
    return scores(quality), cost, ChooseRule(fallback=fallback, threshold=threshold)


def expected(selections: list[Selection], cost: Float64Array) -> float:
    return sum(
        float(cost[row, EXPERTS.index(expert)])
        for row, expert in enumerate(first(selections))
        if expert is not None
    )


@given(batches(), st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3]))
def test_no_more_is_expected_to_be_spent_than_the_budget(
    batch: tuple[Scores, Float64Array, ChooseRule], share: float, min_share: float
) -> None:
    scored, cost, rule = batch
    limits = usd(float(cost.min(axis=1).sum()) * (1 + share), min_share)
    try:
        selections, joint = chosen(scored, cost, rule, limits)
    except ConfigError:
        assume(False)
        raise

    assert limits.budget is not None
    assert joint.spending is not None
    assert expected(selections, cost) <= limits.budget.amount * (1 + 1e-6)
    assert joint.spending.spent == pytest.approx(expected(selections, cost))
    assert joint.spending.bound >= joint.quality - 1e-9


@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_budget_reaches_no_less_but_for_one_query(
    batch: tuple[Scores, Float64Array, ChooseRule], less: float, more: float
) -> None:
    scored, cost, _ = batch
    least, most = float(cost.min(axis=1).sum()), float(cost.max(axis=1).sum())
    known = scores(np.nan_to_num(scored.quality))

    _, small = share_budget(known, cost, PLAIN, usd(least + (most - least) * less))
    _, large = share_budget(known, cost, PLAIN, usd(least + (most - least) * max(less, more)))

    assert small.spending is not None
    assert large.spending is not None
    assert large.spending.bound >= small.spending.bound - 1e-9
    assert large.quality >= small.quality - 1 / len(cost)


@given(batches(), st.sampled_from([0.05, 0.2, 0.4]))
def test_an_expert_with_too_small_a_share_keeps_only_queries_of_which_it_alone_is_known(
    batch: tuple[Scores, Float64Array, ChooseRule], min_share: float
) -> None:
    scored, cost, _ = batch
    try:
        selections, joint = chosen(scored, cost, PLAIN, usd(float(cost.sum()), min_share))
    except ConfigError:
        assume(False)
        raise

    counts = Counter(expert for expert in first(selections) if expert is not None)
    for expert, n in counts.items():
        if n < min_share * counts.total():
            assert expert in joint.rare
    for row, expert in enumerate(first(selections)):
        if expert in joint.rare:
            known = [e for e, q in zip(EXPERTS, scored.quality[row], strict=True) if q == q]
            assert not {*known} & {*joint.frequent}


@given(batches())
def test_a_budget_that_is_slack_chooses_as_none_does(
    batch: tuple[Scores, Float64Array, ChooseRule],
) -> None:
    scored, cost, rule = batch
    limits = usd(float(cost.sum()) + 1)
    free = choose(scored, [f"q{i}" for i in range(len(cost))], rule, router="made")

    selections, joint = chosen(scored, cost, rule, limits)

    for ours, theirs in zip(selections, free, strict=True):
        if theirs.choices:
            assert ours.choices[0].quality == theirs.choices[0].quality
        else:
            assert (ours.choices, ours.reason) == ((), theirs.reason)
    assert joint.given_up == 0
    assert joint.spending is not None
    assert joint.spending.multiplier == 0


def test_the_dear_expert_goes_where_it_gains_most() -> None:
    quality = [[0.5, 0.5, 0.6], [0.5, 0.5, 0.9]]

    selections, joint = chosen(scores(quality), prices(2), PLAIN, usd(5.0))

    assert first(selections) == ["ann", "cas"]
    assert joint.quality == pytest.approx((0.5 + 0.9) / 2)
    assert joint.given_up == pytest.approx(0.05)
    assert joint.spending is not None
    assert joint.spending.bound == pytest.approx(0.7)
    assert selections[1].reason.startswith("best by made; at 0.03")
    assert selections[1].reason.endswith("quality per USD (the cost_weight), within 5 USD in all")


def test_of_queries_that_are_alike_as_many_get_the_dear_expert_as_can_be_paid() -> None:
    selections, joint = chosen(scores([[0.5, 0.1, 0.9]] * 4), prices(4), PLAIN, usd(10.0))

    assert sorted(first(selections)) == ["ann", "ann", "cas", "cas"]  # pyright: ignore[reportArgumentType] - every query has an expert
    assert joint.spending is not None
    assert joint.spending.spent == 10
    assert {s.reason.split(";")[0] for s in selections} == {
        "best by made",
        "best by made, tied with 1 other",
    }


def test_what_is_left_of_a_budget_is_said_to_fill_it() -> None:
    quality = [[0.5, 0.1, 0.9], [0.5, 0.52, 0.1]]

    selections, _ = chosen(scores(quality), prices(2), PLAIN, usd(3.5))

    assert first(selections) == ["ann", "ben"]
    assert selections[1].reason.startswith("fills the budget better than the best by made; at ")
    assert selections[1].margin is not None
    assert selections[1].margin < 0
    assert selections[1].ranking == ("ben", "ann", "cas")


def test_a_query_below_the_threshold_is_the_fallbacks_and_paid_for() -> None:
    rule = ChooseRule(threshold=0.5, fallback="cas")

    selections, joint = chosen(scores([[0.4, 0.3, 0.1], [0.6, 0.7, 0.8]]), prices(2), rule, usd(5))

    assert first(selections) == ["cas", "ann"]
    assert selections[0].reason.startswith("fallback 'cas': the best predicted quality 0.400")
    assert joint.quality == pytest.approx(0.6)
    assert joint.spending is not None
    assert joint.spending.spent == 5


def test_a_query_below_the_threshold_may_be_nobodys_and_costs_nothing() -> None:
    rule = ChooseRule(threshold=0.5, abstain=True)

    selections, joint = chosen(scores([[0.4, 0.3, 0.1], [0.6, 0.7, 0.8]]), prices(2), rule, usd(4))

    assert first(selections) == [None, "cas"]
    assert selections[0].reason.startswith("abstained")
    assert joint.n_choices == 1


def test_a_rare_expert_is_replaced_within_the_budget_and_stays_in_the_ranking() -> None:
    quality = [[0.5, 0.4, 0.6]] * 9 + [[0.5, 0.9, 0.6]]

    selections, joint = chosen(scores(quality), prices(10), PLAIN, usd(40.0, 0.2))

    assert first(selections) == ["cas"] * 10
    assert dict(joint.rare) == {"ben": 1}
    assert joint.frequent == ("ann", "cas")
    assert selections[9].reason.startswith("best by made; without rare 'ben' (1 of 10 choices); at")
    assert selections[9].ranking == ("cas", "ben", "ann")
    assert joint.given_up == pytest.approx(0.03)


def test_who_becomes_rare_only_when_others_have_gone_is_left_out_as_well() -> None:
    quality = [[0.5, 0.5, 0.9]] + [[0.5, 0.9, 0.1]] * 2 + [[0.5, 0.1, 0.1]] * 5
    cost = np.array([[3.0, 6.0, 1.0]] + [[1.0, 3.0, 9.0]] * 7)

    selections, joint = chosen(scores(quality), cost, PLAIN, usd(12.0, 0.25))

    assert first(selections) == ["ann"] * 8
    assert dict(joint.rare) == {"cas": 1, "ben": 1}


def test_a_rare_fallback_leaves_its_queries_to_the_others() -> None:
    rule = ChooseRule(threshold=0.5, fallback="cas")
    quality = [[0.9, 0.2, 0.1]] * 9 + [[0.4, 0.3, 0.1]]

    selections, joint = chosen(scores(quality), prices(10), rule, usd(40.0, 0.2))

    assert first(selections) == ["ann"] * 10
    assert dict(joint.rare) == {"cas": 1}


def test_a_budget_that_only_a_rare_expert_can_keep_names_it() -> None:
    quality = [[0.1, 0.5, 0.9]] * 9 + [[0.9, 0.5, 0.1]]

    with pytest.raises(
        ConfigError, match=r"without 'ann', rare at .* 0\.2, no .*give at least 20, or a lower"
    ):
        share_budget(scores(quality), np.tile([1.0, 3.0, 2.0], (10, 1)), PLAIN, usd(19.0, 0.2))


def test_a_budget_that_cannot_be_kept_says_what_can() -> None:
    with pytest.raises(ConfigError, match=r"^no .* within 1 USD in all; give at least 2$"):
        share_budget(scores([[0.5, 0.5, 0.5]] * 2), prices(2), PLAIN, usd(1.0))


def test_a_budget_where_nobody_has_a_price_says_nothing() -> None:
    with pytest.raises(ConfigError, match="no expert has a price, so a budget of 1 USD in all"):
        share_budget(scores([[0.5, 0.5, 0.5]]), np.zeros((1, 3)), PLAIN, usd(1.0))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(share: float) -> None:
    with pytest.raises(ConfigError, match=r"min_share is .*; give a number from 0 to 1"):
        Limits(min_share=share)


def test_without_a_budget_rare_experts_are_counted_over_all_choices() -> None:
    quality = [[0.5, 0.4, 0.6]] * 9 + [[0.5, 0.9, 0.6]]

    def selections() -> list[Selection]:
        return choose(scores(quality), ["q"] * 10, ChooseRule(k=2), router="made")

    joint = share_choices(selections, 0.2)

    assert dict(joint.rare) == {"ben": 1}
    assert {*joint.frequent} == {"ann", "cas"}
    assert joint.n_choices == 20
    assert joint.quality == pytest.approx(0.55)
    assert joint.given_up == pytest.approx(0.02)


def test_a_share_that_nobody_is_below_changes_nothing() -> None:
    def selections() -> list[Selection]:
        return choose(scores([[0.5, 0.4, 0.6]]), ["q"], PLAIN, router="made")

    joint = share_choices(selections, 0.5)

    assert (dict(joint.rare), joint.given_up) == ({}, 0.0)
    assert joint.frequent == ("cas",)
