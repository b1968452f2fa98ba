"""The search counts as the flow does, and a fit keeps what it promises."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.aggregators.cascade.fit import FittedCascade, fit_cascade
from composer.aggregators.cascade.heldout import LEAST_ROWS, make_votes
from composer.aggregators.cascade.learned import LearnedCascade
from composer.aggregators.cascade.search import (
    NEVER,
    Cascade,
    Votes,
    frontier,
    run_cascade,
    stage_votes,
)
from composer.aggregators.cascade.settings import CascadeSettings
from composer.aggregators.fitted import fit_aggregator
from composer.errors import AggregationError, ConfigError
from composer.flow import FlowRun
from composer.outcomes import Answers, OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import (
    Answer,
    Completion,
    Message,
    Query,
    Request,
    Sample,
    Selection,
)

LETTERS = ("A", "B", "C", "D")
COSTS = (1.0, 2.0, 5.0, 20.0)
NAMES = ("tiny", "small", "large", "huge")


def make_table(
    seed: int, n: int, accuracies: tuple[float, ...] = (0.5, 0.6, 0.7, 0.9)
) -> OutcomeTable:
    """Four experts that are right independently, and wrong anyhow; some do not answer."""
    rng = np.random.default_rng(seed)
    m = len(accuracies)
    right = rng.integers(0, 4, n)
    is_right = rng.random((n, m)) < np.array(accuracies)
    wrong = (right[:, None] + rng.integers(1, 4, (n, m))) % 4
    codes = np.where(is_right, right[:, None], wrong).astype(np.int32)
    codes[rng.random((n, m)) < 0.1] = -1
    return OutcomeTable(
        "made",
        tuple(RecordedQuery(f"q{i}", f"question {i}", "train") for i in range(n)),
        tuple(RecordedExpert(name) for name in NAMES[:m]),
        (codes == right[:, None]).astype(np.float32),
        cost_usd=np.tile(np.array(COSTS[:m], np.float32), (n, 1)),
        answers=Answers(LETTERS, codes),
    )


def answer_as_recorded(
    cascade: CascadeAggregator, table: OutcomeTable, row: int
) -> tuple[float, float]:
    """The score and the cost of the flow's answer, with what is recorded for replies."""
    query = Query(table.queries[row].id, (Message("user", "?"),))
    selection = Selection(query.id, "told", (), NAMES, NAMES, [0.5] * len(NAMES), "as told")

    class Tools:
        def count(self, expert: str, messages: object) -> int:
            return 0

        def limit(self, expert: str) -> None:
            return None

    def reply(request: Request) -> Completion:
        assert table.answers is not None
        said = table.answers.value(row, NAMES.index(request.expert))
        return Completion(
            request.id, request.expert, (Sample(said or "", "stop", 1, answer=said),), 0
        )

    run: FlowRun[Answer] = FlowRun(cascade.combine(query, selection, Tools()))
    requests = run.start()
    asked: list[int] = []
    try:
        while not run.is_done:
            asked += [NAMES.index(request.expert) for request in requests]
            requests = run.deliver([reply(request) for request in requests])
        score = float(table.score[row, NAMES.index(run.result.expert)])
    except AggregationError:
        score = 0.0
    return score, sum(COSTS[column] for column in asked)


def made_of(votes: Votes, cascade: Cascade) -> FittedCascade:
    """A cascade of the search as an aggregator."""
    return FittedCascade(
        LearnedCascade(
            CascadeSettings(
                "votes",
                votes.measure,
                cascade.thresholds,
                tuple(NAMES[column] for column in cascade.columns),
                accuracies=tuple(float(votes.accuracies[column]) for column in cascade.columns),
                n_options=votes.n_options,
            )
        )
    )


@pytest.mark.parametrize("measure", ["share", "posterior"])
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), thresholds=st.lists(st.floats(0, 1.1), min_size=3, max_size=3))
def test_what_the_search_counts_is_what_the_flow_does(
    measure: str, seed: int, thresholds: list[float]
) -> None:
    table = make_table(seed, 40)
    votes = make_votes(table, measure, table)
    cascade = Cascade((0, 1, 2, 3), tuple(thresholds), 0, 0)

    score, cost, _ = run_cascade(stage_votes(votes, cascade.columns), cascade.thresholds)
    flow = [answer_as_recorded(made_of(votes, cascade), table, row) for row in range(40)]

    assert [(float(s), float(c)) for s, c in zip(score, cost, strict=True)] == flow


@pytest.mark.parametrize("measure", ["share", "posterior"])
@pytest.mark.parametrize("target", [0.55, 0.75, 0.88])
def test_what_the_search_promises_is_what_its_cascade_does_on_the_same_rows(
    measure: str, target: float
) -> None:
    votes = make_votes(make_table(1, 400), measure, make_table(1, 400))

    (found,) = frontier(votes, [target], 4)

    score, cost, _ = run_cascade(stage_votes(votes, found.columns), found.thresholds)
    assert found.accuracy == pytest.approx(score.mean())
    assert found.cost_usd == pytest.approx(cost.mean())


def test_no_combination_of_the_tried_thresholds_is_cheaper() -> None:
    table = make_table(2, 200, (0.5, 0.6, 0.9))
    votes = make_votes(table, "posterior", table)

    (found,) = frontier(votes, [0.75], 3)

    stages = stage_votes(votes, (0, 1, 2))
    values = [np.unique(confidence) for confidence in stages.confidence[:2]]
    by_hand = [
        (float(cost.mean()), float(score.mean()))
        for pair in itertools.product(*([0.0, *each, NEVER] for each in values))
        for score, cost, _ in [run_cascade(stages, pair)]
    ]
    cheapest = min(cost for cost, accuracy in by_hand if accuracy >= 0.75)
    assert found.cost_usd <= cheapest + 1e-9


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    thresholds=st.lists(st.floats(0, 1.1), min_size=3, max_size=3),
    factor=st.floats(0, 1),
)
def test_lower_thresholds_never_cost_more(
    seed: int, thresholds: list[float], factor: float
) -> None:
    table = make_table(seed, 60)
    stages = stage_votes(make_votes(table, "posterior", table), (0, 1, 2, 3))

    _, lower, _ = run_cascade(stages, [each * factor for each in thresholds])
    _, higher, _ = run_cascade(stages, thresholds)

    assert (lower <= higher).all()


def test_the_expected_cost_is_each_stages_cost_times_the_share_that_reaches_it() -> None:
    table = make_table(3, 300)
    stages = stage_votes(make_votes(table, "posterior", table), (0, 1, 2, 3))

    _, cost, stage = run_cascade(stages, [0.4, 0.8, 0.9])

    by_formula = sum(price * float((stage >= at).mean()) for at, price in enumerate(COSTS))
    assert float(cost.mean()) == pytest.approx(by_formula)


def test_thresholds_that_nothing_reaches_ask_every_stage() -> None:
    table = make_table(4, 50)
    stages = stage_votes(make_votes(table, "posterior", table), (0, 1, 2, 3))

    _, _, stage = run_cascade(stages, [NEVER] * 3)

    assert (stage == 3).all()


def test_a_fit_reaches_its_accuracy_on_held_out_rows_for_less_than_the_best_expert_costs() -> None:
    fitted = fit_cascade(make_table(5, 1500), target_accuracy=0.75, n_folds=3)

    expected: dict[str, Any] = dict(fitted.summary)
    assert expected["accuracy"]["mean"] >= 0.75
    assert expected["cost_usd"]["mean"] < expected["best_single"]["cost_usd"]
    low, high = expected["cost_usd"]["ci95"]
    assert low < expected["cost_usd"]["mean"] < high
    assert expected["n"] == 1500


def test_a_fit_for_a_cost_stays_below_it() -> None:
    fitted = fit_cascade(make_table(5, 600), target_cost_usd=12.0, n_folds=3)

    assert fitted.summary["cost_usd"]["mean"] <= 12.0


def test_without_a_target_nearly_all_of_the_way_is_the_target() -> None:
    table = make_table(6, 600)
    score = table.score.mean(axis=0, dtype=np.float64)

    fitted = fit_aggregator("cascade", table, {"n_folds": 2, "n_stages": 3})

    assert fitted.summary["target"]["accuracy"] == pytest.approx(0.05 * score[0] + 0.95 * score[3])


def test_stages_stand_from_cheap_to_dear() -> None:
    fitted = fit_cascade(make_table(7, 600), target_accuracy=0.75, n_folds=2)

    places = [NAMES.index(name) for name in fitted.summary["experts"]]
    assert places == sorted(places)


def test_only_the_experts_named_are_stages() -> None:
    fitted = fit_cascade(
        make_table(7, 600), experts=["huge", "small", "tiny"], target_accuracy=0.7, n_folds=2
    )

    assert set(fitted.summary["experts"]) <= {"tiny", "small", "huge"}
    assert fitted.summary["cheapest"]["expert"] == "tiny"


def test_a_fit_that_is_saved_and_read_does_the_same(tmp_path: Path) -> None:
    table = make_table(8, 600)
    fitted = fit_cascade(table, target_accuracy=0.75, n_folds=2)

    fitted.save(tmp_path)
    read = CascadeAggregator(from_=str(tmp_path))

    assert read.settings == fitted.settings
    assert read.experts == set(fitted.summary["experts"])


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("accuracies", [0.5], "weigh no votes"),
        ("accuracies", [0.5, 1.0], "weigh no votes"),
        ("n_options", 1, "weigh no votes"),
        ("measure", "mean", "only votes by"),
        ("thresholds", [], "no 'thresholds' are set"),
        ("thresholds", ["high"], "'thresholds.0' is wrong"),
        ("colour", "red", "'colour' is wrong"),
    ],
)
def test_a_saved_cascade_that_is_not_whole_is_refused_in_one_line(
    key: str, value: object, why: str, tmp_path: Path
) -> None:
    votes = make_votes(make_table(8, 60), "posterior", make_table(8, 60))
    fitted = made_of(votes, Cascade((0, 3), (0.5,), 0, 0))
    fitted.save(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = json.loads(path.read_text("utf-8"))
    whole["learned"][key] = value
    path.write_text(json.dumps(whole), encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        CascadeAggregator(from_=str(tmp_path))

    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"confidence": "logprobs"}, "confidence 'logprobs' is not recorded"),
        ({"target_accuracy": 0.5, "target_cost_usd": 1.0}, "are two targets"),
        ({"n_stages": 1}, "'n_stages' is 1"),
        ({"n_folds": 1}, "'n_folds' is 1"),
        ({"experts": ["huge"]}, "is one expert"),
        ({"target_accuracy": 0.999}, "no cascade reaches an accuracy of 0.9990"),
        ({"target_cost_usd": 0.5}, "no cascade costs as little as 0.5 USD"),
        ({"target_accuracy": 0.1}, "'tiny' alone does it"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit_aggregator("cascade", make_table(9, 200), {"n_folds": 2, **wanted})

    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_answers_or_costs_or_with_few_rows_is_refused() -> None:
    table = make_table(9, LEAST_ROWS)
    for poor, why in (
        (replace(table, answers=None), "no answers are recorded"),
        (replace(table, cost_usd=None), "no costs are recorded"),
        (table.rows(list(range(LEAST_ROWS - 1))), "teach nothing"),
    ):
        with pytest.raises(ConfigError, match=why):
            fit_cascade(poor)


def test_rows_in_which_a_cell_is_unknown_teach_nothing() -> None:
    table = make_table(9, 200)
    table.score[:140, 0] = np.nan

    fitted = fit_cascade(table, target_accuracy=0.7, n_folds=2)

    assert fitted.summary["n"] == 60
