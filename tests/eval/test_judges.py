"""What a replay with a scripted judge counts and finds, and when the command fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from composer.aggregators.judge.calls import judge_calls
from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table
from composer.types import Request
from eval.__main__ import app
from eval.judges import check_counts, to_json
from eval.judges_replay import Judged, Row, judge_records, make_methods
from eval.judges_script import ScriptedJudge

METHODS = {"judge pointwise", "judge pairwise", "best of 3", "rank-and-fuse"}
PERFECT = ScriptedJudge("score", 0.0, 0, 0.001)
NOISY = ScriptedJudge("score", 0.5, 0, 0.001)

Invoke = Callable[..., Result]


@pytest.fixture
def table() -> OutcomeTable:
    """Four experts on 30 questions; ann is the best on train, dee the worst."""
    rng = np.random.default_rng(3)
    names = ("dee", "ann", "ben", "cy")
    score = rng.random((30, 4)) * np.array([0.2, 1.0, 0.9, 0.8])
    return OutcomeTable(
        "made",
        tuple(
            RecordedQuery(f"q{row}", f"Question {row}?", ("train", "test")[row % 2])
            for row in range(30)
        ),
        tuple(RecordedExpert(name) for name in names),
        score.astype(np.float32),
        cost_usd=np.full((30, 4), 0.002, np.float32),
        texts=np.array(
            [[f"{name} {row}" + "!" * (row % 3) for name in names] for row in range(30)], np.object_
        ),
    )


@pytest.fixture
def invoke() -> Invoke:
    """`python -m eval judges` in this process."""
    return lambda *args: CliRunner().invoke(app, ["judges", *map(str, args)])


def rows(judged: Judged) -> dict[str, Row]:
    return {row.method: row for row in judged.rows}


def test_calls_and_cost_are_those_of_the_formulas_on_every_query(table: OutcomeTable) -> None:
    found = rows(judge_records(table, NOISY, k=3))

    assert {name for name, row in found.items() if row.calls == row.calls_by_formula} == METHODS
    assert [found[name].n_differ for name in METHODS] == [0, 0, 0, 0]
    assert found["judge pointwise"].calls == 6
    assert found["best of 3"].calls == 4
    assert found["judge pointwise"].usd == pytest.approx(3 * 0.002 + 3 * 0.001)
    assert 3 + 4 <= found["judge pairwise"].calls <= judge_calls("pairwise", 3)
    assert found["rank-and-fuse"].calls == found["judge pairwise"].calls + 1


def test_the_best_experts_on_train_propose_on_the_other_rows(table: OutcomeTable) -> None:
    judged = judge_records(table, PERFECT, k=3)

    assert set(judged.proposers) == {"ann", "ben", "cy"}
    assert (judged.n, judged.n_left_out) == (15, 0)


def test_a_judge_that_does_not_err_finds_the_best_proposal(table: OutcomeTable) -> None:
    found = rows(judge_records(table, PERFECT, k=3))

    assert found["judge pairwise"].score == found["oracle"].score
    assert found["judge pairwise"].delta_best_single > 0
    assert found["best-single"].delta_ci95 == (0, 0)
    assert found["random"].score < found["best-single"].score


def test_a_judge_that_errs_finds_it_less_often(table: OutcomeTable) -> None:
    perfect, noisy = (rows(judge_records(table, j, k=3)) for j in (PERFECT, NOISY))

    assert noisy["judge pairwise"].score < perfect["judge pairwise"].score
    assert noisy["judge pairwise"].ci95[0] < noisy["judge pairwise"].score


def test_a_judge_may_go_by_length(table: OutcomeTable) -> None:
    texts = np.array(table.texts)
    texts[:, table.names.index("cy")] = "the longest text of all"

    found = rows(judge_records(replace(table, texts=texts), replace(PERFECT, taste="length"), k=3))

    cy = table.score[1::2, table.names.index("cy")].astype(float).mean()
    assert found["judge pointwise"].score == pytest.approx(cy)


def test_rows_without_all_texts_and_scores_are_left_out(table: OutcomeTable) -> None:
    texts, score = np.array(table.texts), table.score.copy()
    texts[1, 1], texts[3, 2], score[5, 1] = None, "<think>hm</think>", np.nan
    texts[7, 0] = None

    judged = judge_records(replace(table, texts=texts, score=score), PERFECT, k=3)

    assert (judged.n, judged.n_left_out) == (12, 3)


def test_only_the_first_rows_are_judged_where_that_is_asked(table: OutcomeTable) -> None:
    assert judge_records(table, PERFECT, k=3, limit=4).n == 4


def test_costs_that_are_not_recorded_are_unknown_and_no_difference(table: OutcomeTable) -> None:
    judged = judge_records(replace(table, cost_usd=None), PERFECT, k=3)

    by_name = {row["method"]: row for row in to_json(judged)["rows"]}
    assert by_name["judge pointwise"]["usd"] is None
    assert by_name["judge pointwise"]["n_differ"] == 0
    assert by_name["random"]["calls"] is None


def test_queries_that_differ_from_a_formula_are_counted_named_and_fail(
    table: OutcomeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = make_methods(3)
    wrong = replace(methods["judge pointwise"], calls=len)

    judged = judge_records(table, PERFECT, k=3, methods={"wrong": wrong})

    assert rows(judged)["wrong"].n_differ == 15
    assert rows(judged)["wrong"].differing[:2] == ("q1", "q3")
    with pytest.raises(typer.Exit) as caught:
        check_counts(judged)
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == (
        "error: wrong: 15 of 15 queries differ from the formula, such as 'q1'\n"
    )


def test_the_judge_is_the_same_again_and_another_with_another_seed() -> None:
    requests = [Request(f"q{i}/judge/(judge)/1-2", "(judge)", ()) for i in range(20)]
    judges = (NOISY, NOISY, replace(NOISY, seed=1))

    first, again, other = ([j.reply(r, [0.4, 0.5]) for r in requests] for j in judges)

    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("1", {"score": 1}),
        ("2", {"score": 10}),
        ("3", {"score": 6}),
        ("1-2", {"better": "B"}),
        ("2-1", {"better": "A"}),
        ("3-4", {"better": "tie"}),
    ],
)
def test_the_judge_replies_to_scores_and_comparisons(path: str, reply: dict[str, object]) -> None:
    request = Request(f"q1/judge/(judge)/{path}", "(judge)", ())

    assert json.loads(PERFECT.reply(request, [0.0, 1.0, 0.5, 0.5])) == reply


def test_the_command_says_that_its_judge_is_scripted(
    invoke: Invoke, table: OutcomeTable, tmp_path: Path
) -> None:
    save_table(table, tmp_path / "made")

    result = invoke(tmp_path / "made", "--k", 3, "--output", "json")
    shown = invoke(tmp_path / "made", "--k", 3)

    assert (result.exit_code, shown.exit_code) == (0, 0)
    found = json.loads(result.stdout)
    assert found["judge"] == {
        "scripted": True,
        "taste": "score",
        "noise": 0.2,
        "seed": 0,
        "usd": 0.001,
    }
    assert {row["method"] for row in found["rows"]} == METHODS | {"random", "best-single", "oracle"}
    assert "the judge is scripted: it goes by the recorded score with noise 0.2" in shown.stdout
    assert "15 of 15" in shown.stdout


def test_a_sub_pool_proposes_where_one_is_named(
    invoke: Invoke, table: OutcomeTable, tmp_path: Path
) -> None:
    save_table(table, tmp_path / "made")

    result = invoke(tmp_path / "made", "--k", 2, "--experts", "dee,cy", "--output", "json")

    assert set(json.loads(result.stdout)["proposers"]) == {"dee", "cy"}


def test_what_cannot_be_judged_is_one_line(table: OutcomeTable) -> None:
    silent = np.full(table.score.shape, None, np.object_)

    for given, k, message in (
        (replace(table, texts=None), 3, "made: no texts are recorded"),
        (table, 5, "5 are to propose and there are 4 experts; lower --k"),
        (replace(table, texts=silent), 3, "no row outside train has the text and the score"),
        (table.split("test"), 3, "no split 'train'"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            judge_records(given, PERFECT, k=k)
        assert "\n" not in str(caught.value)
