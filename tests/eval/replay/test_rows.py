from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import (
    accuracy,
    brier,
    cost_per_1k,
    ece,
    interval,
    macro_accuracy,
    ndcg_at_k,
    oracle_gap_closed,
    recall_at_k,
    regret,
    resample_means,
)
from eval.replay.judged import Decision, Judged
from eval.replay.ladder import LADDER
from eval.replay.parts import Part, make_parts
from eval.replay.rows import make_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from composer.outcomes import OutcomeTable
    from eval.replay.rows import Row
    from tests.eval.replay.conftest import MakeTable

PROMISED = {
    "method", "split", "n", "n_unknown", "n_failed", "accuracy", "ci95", "macro_accuracy",
    "macro_ci95", "delta_best_single", "delta_ci95", "macro_delta_best_single", "macro_delta_ci95",
    "cost_usd_per_1k", "oracle_gap_closed", "asked_per_query", "category", "settings", "regret",
}  # fmt: skip
ROUTED = {"ece", "brier", "ndcg_at_3", "recall_at_3"}
SCORE = st.sampled_from([0.0, 0.5, 1.0, math.nan])
ULP = 1e-9


def first_part(table: OutcomeTable) -> Part:
    return make_parts(table)[0]


def ladder(part: Part) -> list[Judged]:
    return [rung(part.rounds[0]) for rung in LADDER.values()]


def scoring(part: Part, scores: Sequence[float], *, predicted: float | None = None) -> Judged:
    """A method that got these scores; with `predicted`, a router that said this of every expert."""
    decisions = tuple(
        Decision(query.id, "ann", ("ann", "bea"), score, 0.002, predicted or math.nan)
        for query, score in zip(part.judged.queries, scores, strict=True)
    )
    quality = np.full(part.judged.score.shape, predicted, np.float32) if predicted else None
    return Judged("mine", decisions, {"k": 2}, quality)


def rows_of(part: Part, *others: Judged, seed: int = 0, n_resamples: int = 500) -> dict[str, Row]:
    judged = [*ladder(part), *others]
    told = {each.method: False for each in judged}
    rows = make_rows(part, judged, told, seed=seed, n_resamples=n_resamples)
    return {row.method: row for row in rows}


def test_every_figure_is_that_of_the_metrics_on_the_same_arrays(graded: OutcomeTable):
    part = first_part(graded)
    table, judged = part.judged, ladder(part)

    rows = rows_of(part)

    score = {each.method: each.score for each in judged}
    for each in judged:
        row, got = rows[each.method], score[each.method]
        delta = got - score["best-single"]
        assert (row.split, row.n, row.settings) == ("test", 20, each.settings)
        assert row.accuracy == accuracy(got)
        assert row.macro_accuracy == macro_accuracy(got, table.category_codes)
        assert row.delta_best_single == accuracy(delta)
        assert row.macro_delta_best_single == macro_accuracy(delta, table.category_codes)
        assert row.cost_usd_per_1k == cost_per_1k(each.cost_usd)
        assert row.oracle_gap_closed == oracle_gap_closed(
            accuracy(got), accuracy(score["best-single"]), accuracy(score["oracle"])
        )
        assert row.figures == {"regret": regret(got, table.score)}


def test_a_routers_figures_are_those_of_its_predictions(graded: OutcomeTable):
    part = first_part(graded)
    rng = np.random.default_rng(0)
    quality = rng.random(part.judged.score.shape, np.float32)
    predicted, score = rng.random(20), rng.random(20)
    decisions = tuple(
        Decision(query.id, "ann", ("ann",), s, 0.0, p)
        for query, s, p in zip(part.judged.queries, score, predicted, strict=True)
    )

    row = rows_of(part, Judged("mine", decisions, {}, quality))["mine"]

    assert row.figures == {
        "regret": regret(score, part.judged.score),
        "ece": ece(predicted, score),
        "brier": brier(predicted, score),
        "ndcg_at_3": accuracy(ndcg_at_k(quality, part.judged.score, 3)),
        "recall_at_3": accuracy(recall_at_k(quality, part.judged.score, 3)),
    }


def test_intervals_come_from_resamples_of_the_queries_within_their_categories(
    graded: OutcomeTable,
):
    part = first_part(graded)
    (judged,) = (each for each in ladder(part) if each.method == "category-expert")

    row = rows_of(part, n_resamples=4000)["category-expert"]

    means = resample_means(judged.score[:, None], part.judged.category_codes, 4000, seed=9)
    for got, samples in ((row.ci95, means.micro()), (row.macro_ci95, means.macro())):
        low, high = interval(samples)
        assert got == pytest.approx((low[0], high[0]), abs=0.051)
        assert got[0] < row.accuracy < got[1]


def test_a_difference_is_paired_query_by_query(graded: OutcomeTable):
    part = first_part(graded)
    (best,) = (each for each in ladder(part) if each.method == "best-single")

    row = rows_of(part, scoring(part, [s / 2 + 0.25 for s in 1 - best.score]))["mine"]
    same = rows_of(part, scoring(part, [s - 0.25 for s in best.score]))["mine"]

    assert row.delta_ci95[1] - row.delta_ci95[0] > 0.3
    assert same.delta_ci95 == pytest.approx((-0.25, -0.25))
    assert same.macro_delta_ci95 == pytest.approx((-0.25, -0.25))


@settings(max_examples=30, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["art", "law", "-"]),
            st.sampled_from(["0 1", "1 0", "1 ?", "? ?"]),
            SCORE,
        ),
        min_size=1,
        max_size=15,
    )
)
def test_every_interval_holds_its_figure_and_best_single_differs_by_nothing_from_itself(
    make_table: MakeTable, lines: list[tuple[str, str, float]]
):
    lines = [*lines, *lines]
    table = make_table("train law 1 0", *(f"test {c} {cells}" for c, cells, _ in lines))
    part = first_part(table)

    rows = rows_of(part, scoring(part, [score for _, _, score in lines]), n_resamples=300)

    for row in rows.values():
        for figure, (low, high) in (
            (row.accuracy, row.ci95),
            (row.macro_accuracy, row.macro_ci95),
            (row.delta_best_single, row.delta_ci95),
            (row.macro_delta_best_single, row.macro_delta_ci95),
        ):
            assert math.isnan(figure) or low - ULP <= figure <= high + ULP
    best = rows["best-single"]
    if best.n:
        assert (best.delta_best_single, best.delta_ci95) == (0.0, (0.0, 0.0))
        assert (best.macro_delta_best_single, best.macro_delta_ci95) == (0.0, (0.0, 0.0))


def test_a_difference_is_taken_where_both_are_known(make_table: MakeTable):
    table = make_table("train - 1 0", "test - 0 1", "test - 1 1", "test - ? 1")
    part = first_part(table)

    row = rows_of(part, scoring(part, [1.0, math.nan, 1.0]))["mine"]

    assert (row.n, row.n_unknown, row.accuracy) == (2, 1, 1.0)
    assert (row.delta_best_single, row.delta_ci95) == (1.0, (1.0, 1.0))


def test_the_gap_is_closed_where_all_three_are_known(make_table: MakeTable):
    table = make_table("train - 1 0", "test - 0 1", "test - 0 1", "test - ? 1", "test - 1 1")
    part = first_part(table)

    row = rows_of(part, scoring(part, [1.0, 0.0, 0.0, math.nan]))["mine"]

    assert row.oracle_gap_closed == 0.5


def test_the_figures_of_what_asks_several_experts(graded: OutcomeTable):
    part = first_part(graded)

    rows = rows_of(part, scoring(part, [1.0] * 20))

    assert (rows["mine"].asked_per_query, rows["mine"].cost_usd_per_1k) == (2, pytest.approx(2))
    assert rows["random"].asked_per_query == rows["oracle"].asked_per_query == 1


def test_the_json_has_the_promised_keys(graded: OutcomeTable):
    part = first_part(graded)

    rows = rows_of(part, scoring(part, [1.0] * 20, predicted=0.5))

    assert rows["oracle"].to_json().keys() == PROMISED
    assert rows["mine"].to_json().keys() == PROMISED | ROUTED
    assert rows["mine"].to_json()["settings"] == {"k": 2}


def test_what_is_unknown_is_null_in_the_json(make_table: MakeTable):
    part = first_part(make_table("train - 1 0", "test - ? ?", "test - ? ?"))
    nested = replace(
        scoring(part, [math.nan] * 2, predicted=0.5), settings={"a": [{"b": math.nan}]}
    )

    rows = [row.to_json() for row in rows_of(part, nested).values()]

    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert (row["n"], row["n_unknown"], row["accuracy"]) == (0, 2, None)
        assert row["ci95"] == row["macro_ci95"] == row["delta_ci95"] == [None, None]
        assert row["oracle_gap_closed"] is row["regret"] is None
    assert rows[0]["cost_usd_per_1k"] is None
    assert rows[-1]["settings"] == {"a": [{"b": None}]}


def test_json_values_are_those_of_the_row(graded: OutcomeTable):
    row = rows_of(first_part(graded))["category-expert"]

    read = json.loads(json.dumps(row.to_json(), allow_nan=False))

    assert read["accuracy"] == row.accuracy
    assert tuple(read["delta_ci95"]) == row.delta_ci95
    assert read["settings"] == row.settings
    assert read["settings"].keys() == {"law", "maths"}


def test_one_seed_gives_one_result_and_another_other_intervals(graded: OutcomeTable):
    part = first_part(graded)

    first, again, other = (
        [row.to_json() for row in rows_of(part, seed=seed, n_resamples=100).values()]
        for seed in (0, 0, 1)
    )

    assert first == again
    assert [row["accuracy"] for row in first] == [row["accuracy"] for row in other]
    assert [row["ci95"] for row in first] != [row["ci95"] for row in other]


def test_where_many_queries_are_alone_in_their_category_no_interval_is_given(
    make_table: MakeTable,
):
    alone = ["test a 1 0", "test b 0 1", "test c 1 1"]
    together = ["test law 1 0"] * 30

    few = rows_of(first_part(make_table("train law 1 0", *alone, *together)))["oracle"]
    many = rows_of(first_part(make_table("train law 1 0", *alone, *together[:8])))["oracle"]

    assert few.ci95 == (1.0, 1.0)
    assert all(math.isnan(end) for end in (*many.ci95, *many.macro_delta_ci95))
    assert many.accuracy == 1.0
    assert many.to_json()["ci95"] == [None, None]
