from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from eval.replay.ladder import (
    LADDER,
    best_single,
    category_expert,
    category_hindsight,
    fixed,
    oracle,
    random_expert,
)
from eval.replay.parts import Round

if TYPE_CHECKING:
    from collections.abc import Mapping

    from composer.outcomes import OutcomeTable
    from eval.replay.judged import Judged
    from tests.eval.replay.conftest import MakeTable

unhurried = settings(max_examples=30, deadline=None)
LESS = -1.0
"""Less than any mean: what is unknown."""

Lines = tuple[list[str], list[str]]
CELL = st.sampled_from(["0", "0.1", "0.5", "1", "1", "?"])
COST = st.sampled_from(["0.25", "0.5", "0.5", "?"])
QUERY = st.sampled_from([f"{s} {c}" for s in ("train", "test") for c in ("art", "law", "-")])


def lines_of(m: int) -> st.SearchStrategy[Lines]:
    """The lines of a table of m experts with rows to learn on and to judge, and of its costs."""
    cells, costs = (st.lists(of, min_size=m, max_size=m).map(" ".join) for of in (CELL, COST))
    rows = st.lists(st.tuples(QUERY, cells, costs), min_size=2, max_size=12).filter(
        lambda rows: {query.split()[0] for query, _, _ in rows} == {"train", "test"}
    )
    return rows.map(lambda rows: ([f"{q} {c}" for q, c, _ in rows], [cost for _, _, cost in rows]))


drawn = st.integers(1, 4).flatmap(lines_of)


def round_of(table: OutcomeTable) -> Round:
    return Round(table.split("train"), table.split("test"))


def known_mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else None


def means_in(table: OutcomeTable, category: str) -> dict[str, float | None]:
    rows = [row for row, query in enumerate(table.queries) if (query.category or "") == category]
    return {
        name: known_mean([float(table.score[row, column]) for row in rows])
        for column, name in enumerate(table.names)
    }


def overall_means(table: OutcomeTable) -> dict[str, float | None]:
    by_category = [means_in(table, category) for category in table.categories]
    found: dict[str, float | None] = {}
    for name in table.names:
        total, n = 0.0, 0
        for means in by_category:
            mean = means[name]
            if mean is not None:
                total, n = total + mean, n + 1
        found[name] = total / n if n else None
    return found


def leaders(names: list[str], means: Mapping[str, float | None]) -> list[str]:
    values = {name: LESS if (mean := means[name]) is None else mean for name in names}
    return [name for name in names if values[name] == max(values.values())]


def slow_best(table: OutcomeTable, means: Mapping[str, float | None]) -> str:
    return min(leaders(leaders(list(table.names), means), overall_means(table)))


def chosen(judged: Judged) -> list[str | None]:
    return [decision.expert for decision in judged.decisions]


def by_query(judged: Judged) -> dict[str, tuple[str | None, str, str]]:
    return {d.query_id: (d.expert, repr(d.score), repr(d.cost_usd)) for d in judged.decisions}


@unhurried
@given(lines=drawn)
def test_random_is_the_expectation_over_the_known_experts(make_table: MakeTable, lines: Lines):
    each = round_of(make_table(*lines[0], cost=lines[1]))

    judged = random_expert(each)

    costs = each.judged.cost_usd
    assert costs is not None
    for row, decision in enumerate(judged.decisions):
        scores = [float(score) for score in each.judged.score[row]]
        paid = [
            float(cost)
            for cost, score in zip(costs[row], scores, strict=True)
            if not math.isnan(score)
        ]
        for got, expected in ((decision.score, scores), (decision.cost_usd, paid)):
            mean = known_mean(expected)
            assert got == pytest.approx(math.nan if mean is None else mean, nan_ok=True)
        assert (decision.expert, decision.asked) == (None, ())


@unhurried
@given(lines=drawn)
def test_the_best_single_expert_does_best_over_the_categories_of_train(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0]))

    judged = best_single(each)

    best = slow_best(each.train, overall_means(each.train))
    assert chosen(judged) == [best] * len(each.judged.queries)
    assert judged.settings == {"expert": best}


@unhurried
@given(lines=drawn)
def test_the_category_expert_does_best_in_the_category_on_train(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0]))

    judged = category_expert(each)

    experts = {c: slow_best(each.train, means_in(each.train, c)) for c in each.train.categories}
    single = slow_best(each.train, overall_means(each.train))
    assert chosen(judged) == [experts.get(q.category or "", single) for q in each.judged.queries]
    assert judged.settings == {category or "(none)": name for category, name in experts.items()}


@unhurried
@given(lines=drawn)
def test_hindsight_chooses_the_best_of_the_category_on_what_is_judged(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0]))

    judged = category_hindsight(each)

    assert chosen(judged) == [
        slow_best(each.judged, means_in(each.judged, query.category or ""))
        for query in each.judged.queries
    ]


@unhurried
@given(lines=drawn)
def test_the_oracle_takes_the_cheapest_of_the_best_of_each_query(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0], cost=lines[1]))

    judged = oracle(each)

    costs = each.judged.cost_usd
    assert costs is not None
    for row, decision in enumerate(judged.decisions):
        names = list(each.judged.names)
        cells = dict(zip(names, map(float, each.judged.score[row]), strict=True))
        best = leaders(names, {n: None if math.isnan(s) else s for n, s in cells.items()})
        paid = dict(zip(names, map(float, costs[row]), strict=True))
        cheapest = leaders(best, {n: None if math.isnan(c) else 1 / c for n, c in paid.items()})
        assert decision.expert == min(cheapest)


@unhurried
@given(lines=drawn)
def test_every_rung_but_random_asks_one_expert_and_gets_what_it_was_recorded_to(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0], cost=lines[1]))

    costs = each.judged.cost_usd
    assert costs is not None
    for rung in set(LADDER) - {"random"}:
        for row, decision in enumerate(LADDER[rung](each).decisions):
            column = each.judged.names.index(decision.expert or "")
            assert decision.query_id == each.judged.queries[row].id
            assert decision.asked == (decision.expert,)
            np.testing.assert_equal(decision.score, float(each.judged.score[row, column]))
            np.testing.assert_equal(decision.cost_usd, float(costs[row, column]))


@unhurried
@given(lines=drawn, data=st.data())
def test_no_order_of_rows_or_columns_changes_a_decision(
    make_table: MakeTable, lines: Lines, data: st.DataObject
):
    table = make_table(*lines[0], cost=lines[1])
    rows = data.draw(st.permutations(range(len(table.queries))))
    names = data.draw(st.permutations(table.names))

    shuffled = table.rows(rows).with_experts(names)

    for rung in LADDER.values():
        assert by_query(rung(round_of(shuffled))) == by_query(rung(round_of(table)))


@unhurried
@given(lines=drawn)
def test_hindsight_is_nowhere_below_the_category_expert_and_nothing_is_above_the_oracle(
    make_table: MakeTable, lines: Lines
):
    table = make_table(*(line.replace("?", "0") for line in lines[0]))
    each = round_of(table)
    score = {name: rung(each).score for name, rung in LADDER.items()}

    for category in range(len(each.judged.categories)):
        rows = each.judged.category_codes == category
        hindsight, expert = (score[f"category-{name}"][rows] for name in ("hindsight", "expert"))
        assert hindsight.mean() >= expert.mean()
    for name in LADDER:
        assert (score["oracle"] >= score[name]).all()


@unhurried
@given(lines=drawn)
def test_the_oracle_is_known_and_unbeaten_wherever_anyone_is_known(
    make_table: MakeTable, lines: Lines
):
    each = round_of(make_table(*lines[0]))

    best = oracle(each).score

    for name in LADDER:
        score = LADDER[name](each).score
        known = ~np.isnan(score)
        assert (best[known] >= score[known]).all()


def test_a_tie_in_a_category_goes_to_the_better_overall_mean(make_table: MakeTable):
    table = make_table("train law 1 1", "train art 0 1", "test law 1 0")

    assert chosen(category_expert(round_of(table))) == ["bea"]


def test_a_tie_that_is_left_goes_to_the_first_by_name(make_table: MakeTable):
    table = make_table("train law 1 1", "train art 1 1", "test law 1 0", names=("zoe", "ann"))

    assert chosen(best_single(round_of(table))) == ["ann"]
    assert chosen(category_expert(round_of(table))) == ["ann"]


def test_a_category_that_was_not_trained_on_has_the_best_single_expert(make_table: MakeTable):
    table = make_table("train law 0 1", "train law 0 1", "train art 1 0", "test new 1 1")

    judged = category_expert(round_of(table.rows([0, 1, 3])))

    assert chosen(judged) == ["bea"]


def test_a_category_of_which_nothing_is_known_has_the_best_single_expert(make_table: MakeTable):
    table = make_table("train law 0 1", "train art ? ?", "test art 1 1")

    assert chosen(category_expert(round_of(table))) == ["bea"]


def test_an_expert_that_is_known_beats_one_that_is_not(make_table: MakeTable):
    table = make_table("train law ? 0", "test law 1 1")

    assert chosen(best_single(round_of(table))) == ["bea"]


def test_categories_weigh_equally_in_the_choice_of_the_best_single_expert(make_table: MakeTable):
    table = make_table(
        "train law 1 0", "train law 1 0", "train art 0 1", "train new 0 1", "test - 1 1"
    )

    assert chosen(best_single(round_of(table))) == ["bea"]


def test_the_oracle_sees_the_smallest_difference_in_cost(make_table: MakeTable):
    costs = ["1 1", "0.00002 0.00001", "1000 1000"]
    table = make_table("train - 1 1", "test - 1 1", "test - 1 1", cost=costs)

    assert chosen(oracle(round_of(table))) == ["bea", "ann"]


def test_the_oracle_prefers_a_better_answer_at_any_price(make_table: MakeTable):
    table = make_table("train - 1 1", "test - 0.999999 1", cost=["1 1", "0 1000"])

    assert chosen(oracle(round_of(table))) == ["bea"]


def test_the_oracle_takes_a_known_cost_for_cheaper_than_an_unknown_one(make_table: MakeTable):
    table = make_table("train - 1 1", "test - 1 1", cost=["1 1", "? 1000"])

    assert chosen(oracle(round_of(table))) == ["bea"]


def test_without_recorded_costs_the_cost_is_unknown(make_table: MakeTable):
    each = round_of(make_table("train - 1 0", "test - 1 0"))

    assert all(np.isnan(rung(each).cost_usd).all() for rung in LADDER.values())


def test_a_fixed_expert_is_asked_everything(make_table: MakeTable):
    table = make_table("train - 1 0", "test - 1 0.5", "test law 1 ?")

    judged = fixed(round_of(table), expert="bea")

    assert (judged.method, chosen(judged)) == ("fixed[expert=bea]", ["bea", "bea"])
    np.testing.assert_equal(judged.score, [0.5, math.nan])


def test_a_fixed_expert_that_is_not_recorded_is_met_with_a_suggestion(make_table: MakeTable):
    each = round_of(make_table("train - 1 0", "test - 1 0"))

    with pytest.raises(ConfigError, match="no recorded expert: 'ana'; did you mean 'ann'"):
        fixed(each, expert="ana")


def test_rungs_learn_from_train_alone(make_table: MakeTable):
    table = make_table("train law 1 0", "test law 1 0", "test law 1 0")
    each = round_of(table)
    reversed_test = replace(each, judged=replace(each.judged, score=each.judged.score[:, ::-1]))

    for rung in (best_single, category_expert):
        assert chosen(rung(reversed_test)) == chosen(rung(each)) == ["ann", "ann"]
    assert chosen(category_hindsight(reversed_test)) == ["bea", "bea"]
