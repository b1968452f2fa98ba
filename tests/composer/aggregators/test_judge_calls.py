"""The formulas, and that flows ask what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from composer.aggregators.judge.calls import (
    judge_calls,
    judgement_calls,
    rank_and_fuse_calls,
    refine_calls,
)
from composer.aggregators.judge.judge import JudgeAggregator
from composer.aggregators.judge.rank_and_fuse import RankAndFuseAggregator
from composer.aggregators.judge.refine import RefineAggregator
from tests.composer.aggregators.saying import run_saying

if TYPE_CHECKING:
    from composer.types import Request
    from tests.composer.aggregators.conftest import Drive

NAMES = tuple("abcdefg")


def worst_case(request: Request, number: int) -> str:
    """Scores are 5; of two, the one that makes each merge of four as long as can be is better."""
    if request.purpose != "judge":
        return request.expert
    if not request.id.rpartition("/")[2].count("-"):
        return json.dumps({"score": 5})
    content = request.messages[1].content
    first, second = (content.partition(f"<reference answer {x}>\n")[2][0] for x in "AB")
    order = "cadb"
    return json.dumps({"better": "A" if order.index(first) < order.index(second) else "B"})


@pytest.mark.parametrize(
    ("n", "pointwise", "pairwise"), [(0, 0, 0), (1, 0, 0), (2, 2, 2), (4, 4, 10)]
)
def test_judgements_of_one_proposal_cost_nothing(n: int, pointwise: int, pairwise: int) -> None:
    assert judgement_calls("pointwise", n) == pointwise
    assert judgement_calls("pairwise", n) == pairwise


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_a_pointwise_judge_asks_as_many_as_the_formula_says(drive: Drive, k: int) -> None:
    selection = drive.selection(k=k, ranking=(*NAMES, "dan"))

    ran = run_saying(JudgeAggregator(by="dan"), worst_case, drive.query(), selection)

    assert len(ran.requests) == judge_calls("pointwise", k)


def test_best_of_n_asks_as_many_as_the_formula_says(drive: Drive) -> None:
    aggregator = JudgeAggregator(by="dan", n=5, temperature=1.0)

    ran = run_saying(aggregator, worst_case, drive.query(), drive.selection())

    assert len(ran.requests) == judge_calls("pointwise", 3, n=5) == 6


def test_a_tournament_may_ask_the_most_that_the_formula_says(drive: Drive) -> None:
    selection = drive.selection(k=4, ranking=("a", "b", "c", "d", "dan"))

    judged = run_saying(
        JudgeAggregator(by="dan", mode="pairwise"), worst_case, drive.query(), selection
    )
    fused = run_saying(RankAndFuseAggregator(by="dan"), worst_case, drive.query(), selection)

    assert len(judged.requests) == judge_calls("pairwise", 4) == 14
    assert len(fused.requests) == rank_and_fuse_calls("pairwise", 4) == 15


@pytest.mark.parametrize("k", [1, 3])
def test_rank_and_fuse_asks_as_many_as_the_formula_says(drive: Drive, k: int) -> None:
    aggregator = RankAndFuseAggregator(by="dan", mode="pointwise")

    ran = run_saying(aggregator, worst_case, drive.query(), drive.selection(k=k))

    assert len(ran.requests) == rank_and_fuse_calls("pointwise", k)


@pytest.mark.parametrize(("k", "rounds"), [(1, 1), (3, 1), (2, 4)])
def test_refine_asks_as_many_as_the_formula_says(drive: Drive, k: int, rounds: int) -> None:
    aggregator = RefineAggregator(by="dan", rounds=rounds)

    ran = run_saying(aggregator, worst_case, drive.query(), drive.selection(k=k))

    assert len(ran.requests) == refine_calls(k, rounds)
