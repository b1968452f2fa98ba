"""What a vote learns from recorded answers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.aggregators.fitted import fit_aggregator
from composer.aggregators.vote.ballots import Ballots, Weights, make_ballots
from composer.aggregators.vote.cross_validation import Candidate, choose
from composer.aggregators.vote.fitting import fit_vote
from composer.aggregators.vote.log_odds import Shrinkage, fit_log_odds
from composer.aggregators.vote.logit import Ridge, fit_logit, make_objective
from composer.aggregators.vote.weights import load_weights
from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from tests.composer.aggregators.voting import recorded

EVERY_KIND = pytest.mark.parametrize("kind", ["learned", "weighted"])


def simulated(
    n: int, accuracies: Sequence[float], *, seed: int = 0, categories: Sequence[str] = ()
) -> OutcomeTable:
    """Experts who are right with these probabilities, each for itself, and else say anything."""
    rng = random.Random(seed)
    rows: list[tuple[str, str]] = []
    for _ in range(n):
        right = rng.choice("ABCDE")
        wrong = [letter for letter in "ABCDE" if letter != right]
        rows.append(
            ("".join(right if rng.random() < p else rng.choice(wrong) for p in accuracies), right)
        )
    names = ("ann", "ben", "cas", "dan", "eve")[: len(accuracies)]
    of = [categories[i % len(categories)] for i in range(n)] if categories else None
    return recorded(rows, names, of)


def ballots_of(table: OutcomeTable, n_options: int | None = None) -> Ballots:
    return make_ballots(table, "choice", n_options)


@given(st.integers(0, 10_000))
def test_the_gradient_of_the_logit_is_that_of_its_objective(seed: int) -> None:
    ballots = ballots_of(simulated(12, (0.7, 0.5, 0.3), seed=seed, categories=("x", "y")), 6)
    objective = make_objective(ballots, Ridge(0.5, 2.0, 1.0))
    n_parameters = len(ballots.categories) * 3 + len(ballots.options)
    at = np.random.default_rng(seed).normal(size=n_parameters)

    _, gradient = objective(at)

    steps = 1e-5 * np.eye(n_parameters)
    slopes = [(objective(at + step)[0] - objective(at - step)[0]) / 2e-5 for step in steps]
    assert gradient == pytest.approx(slopes, abs=1e-4)


def test_the_logit_finds_the_log_odds_of_experts_that_err_apart() -> None:
    table = simulated(4000, (0.8, 0.6, 0.3))

    weights = fit_logit(ballots_of(table).without_categories(), Ridge(0.1)).experts[0]

    expected = [np.log(p * 4 / (1 - p)) for p in (0.8, 0.6, 0.3)]
    assert weights == pytest.approx(expected, abs=0.15)


def test_the_log_odds_are_those_of_the_accuracies() -> None:
    table = simulated(4000, (0.8, 0.6, 0.3))

    weights = fit_log_odds(ballots_of(table), Shrinkage(1.0)).experts[0]

    expected = [np.log(p * 4 / (1 - p)) for p in table.score.mean(axis=0).tolist()]
    assert weights == pytest.approx(expected, abs=0.01)


def test_a_power_keeps_the_sign_of_a_weight() -> None:
    table = simulated(4000, (0.8, 0.1))

    plain = fit_log_odds(ballots_of(table), Shrinkage(1.0)).experts[0]
    squared = fit_log_odds(ballots_of(table), Shrinkage(2.0)).experts[0]

    assert plain[1] < 0
    assert squared[1] / squared[0] == pytest.approx(-((plain[1] / plain[0]) ** 2))
    assert abs(squared).sum() == pytest.approx(abs(plain).sum())


def weighing(ballots: Ballots, *weights: float) -> Weights:
    return Weights(np.array([weights]), np.zeros(len(ballots.options)))


def test_candidates_that_are_equally_right_are_told_apart_by_the_votes_they_need() -> None:
    table = recorded([("ABC", "A"), ("BCA", "B"), ("CAB", "A")] * 20)
    ballots = ballots_of(table).without_categories()
    candidates = [
        Candidate({"second": 1.5}, lambda b: weighing(b, 2.0, 1.5, 0.6)),
        Candidate({"second": 0.3}, lambda b: weighing(b, 2.0, 0.3, 0.3)),
    ]
    folds = [table.folds(5)]

    first = choose(ballots, candidates, folds, max_loss=0.0)
    sparing = choose(ballots, candidates, folds, max_loss=0.0, sparing=True)

    assert first.accuracy == sparing.accuracy
    assert (first.candidate, first.exact_calls) == (candidates[0], 1)
    assert (sparing.candidate, sparing.exact_calls) == (candidates[1], pytest.approx(1 / 3))


def test_an_echo_gets_little_weight_of_the_logit_and_all_of_its_accuracy() -> None:
    table = simulated(2000, (0.6, 0.7))
    assert table.answers is not None
    echo = np.concatenate([table.answers.codes, table.answers.codes[:, :1]], axis=1)
    table = replace(
        table,
        experts=(*table.experts, replace(table.experts[0], name="echo")),
        score=np.concatenate([table.score, table.score[:, :1]], axis=1),
        answers=replace(table.answers, codes=echo),
    )
    ballots = ballots_of(table)

    learned = fit_logit(ballots, Ridge(3.0)).experts[0]
    by_accuracy = fit_log_odds(ballots, Shrinkage(1.0)).experts[0]

    assert learned[0] + learned[2] == pytest.approx(np.log(0.6 * 4 / 0.4), abs=0.15)
    assert by_accuracy[0] == by_accuracy[2] == pytest.approx(np.log(0.6 * 4 / 0.4), abs=0.15)


def test_a_rare_category_keeps_to_the_common_weights() -> None:
    often = simulated(500, (0.9, 0.4), categories=("often",))
    table = replace(often, queries=tuple(
        replace(q, category="rare" if i < 3 else "often") for i, q in enumerate(often.queries)
    ))  # fmt: skip
    ballots = ballots_of(table)

    for weights in (
        fit_logit(ballots, Ridge(3.0, 10.0)),
        fit_log_odds(ballots, Shrinkage(1, 50)),
    ):
        common, _, rare = weights.experts
        assert rare == pytest.approx(common, abs=0.2)
        assert not np.array_equal(rare, common)


@EVERY_KIND
def test_the_order_of_rows_and_experts_does_not_matter(
    kind: Literal["learned", "weighted"], tmp_path: Path
) -> None:
    table = simulated(80, (0.8, 0.5, 0.4), categories=("x", "y"))
    order = random.Random(1).sample(range(80), 80)
    shuffled = table.rows(order).with_experts(["cas", "ann", "ben"])

    fit_vote(table, kind=kind).save(tmp_path / "one")
    fit_vote(shuffled, kind=kind).save(tmp_path / "other")

    assert (tmp_path / "one" / "aggregator.json").read_text() == (
        tmp_path / "other" / "aggregator.json"
    ).read_text()


@EVERY_KIND
def test_a_fit_is_saved_with_what_it_chose_and_how_well_it_does(
    kind: Literal["learned", "weighted"], tmp_path: Path
) -> None:
    table = simulated(200, (0.9, 0.4, 0.3), categories=("x", "y"))

    fit_aggregator(f"vote-{kind}", table, {"max_loss": 0.01}).save(tmp_path)
    read = load_weights(tmp_path, "vote-learned" if kind == "learned" else "vote-weighted")

    assert read.experts == {"ann", "ben", "cas"}
    assert read.n_options == 5
    assert read.known is not None
    assert set(read.known.weights) == {"x", "y"}
    assert read.settings["max_loss"] == 0.01
    assert set(read.settings) >= {"hidden", "known"}
    assert 0.8 < read.held_out["hidden_held_out"]["accuracy"] <= 1
    assert read.hidden.weights[""]["ann"] > read.hidden.weights[""]["cas"]


@EVERY_KIND
def test_a_table_without_categories_has_hidden_weights_only(
    kind: Literal["learned", "weighted"],
) -> None:
    summary = fit_vote(simulated(60, (0.8, 0.5)), kind=kind).summary

    assert "hidden_held_out" in summary
    assert "known_held_out" not in summary


def test_weights_are_scaled_until_the_posterior_is_as_often_right(tmp_path: Path) -> None:
    rng = random.Random(0)
    same = [(rng.choice("AAAB") * 3, "A") for _ in range(300)]

    fit_vote(recorded(same), kind="weighted", n_options=5).save(tmp_path)
    together = sum(load_weights(tmp_path, "vote-weighted").hidden.weights[""].values())

    assert math.exp(together) / (math.exp(together) + 4) == pytest.approx(0.75, abs=0.07)


def test_open_answers_have_no_constants_and_no_number_of_options(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [(rng.choice(("AB", "BA")), rng.choice("AAAAB")) for _ in range(100)]

    fit_vote(recorded(rows, ("ann", "ben")), answer_type="text").save(tmp_path)
    read = load_weights(tmp_path, "vote-learned")

    assert read.n_options is None
    assert read.hidden.constants == {}


def test_an_option_that_is_right_more_often_than_votes_say_has_a_constant(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [(rng.choice(("AB", "BA")), rng.choice("BBBBA")) for _ in range(100)]

    fit_vote(recorded(rows, ("ann", "ben"))).save(tmp_path)
    constants = load_weights(tmp_path, "vote-learned").hidden.constants

    assert constants["B"] > constants["A"]


def test_a_table_without_answers_cannot_teach() -> None:
    table = replace(simulated(10, (0.8, 0.5)), answers=None)

    with pytest.raises(ConfigError, match=r"records no answers of type 'choice'.*write 'answer'"):
        fit_vote(table)


def test_a_table_without_a_right_answer_cannot_teach() -> None:
    with pytest.raises(ConfigError, match="no recorded answer is known to be right"):
        fit_vote(recorded([("AB", "C"), ("BA", "C")], ("ann", "ben")))


def test_a_table_of_one_right_answer_is_too_small() -> None:
    with pytest.raises(ConfigError, match="too few of its rows have a right answer"):
        fit_vote(recorded([("AB", "A"), ("BA", "C")], ("ann", "ben")))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"answer_type": "letters"}, "'answer_type' is 'letters'; choose from"),
        ({"n_options": 1}, "'n_options' is 1; set 2 or more"),
        ({"n_options": True}, "'n_options' is True; set 2 or more"),
        ({"n_options": "ten"}, "'n_options' is 'ten'; set 2 or more"),
        ({"max_loss": -0.1}, "'max_loss' is -0.1; set a share"),
        ({"max_loss": "none"}, "'max_loss' is 'none'; set a share"),
        ({"max_loss": float("nan")}, "'max_loss' is nan; set a share"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        fit_aggregator("vote-weighted", simulated(10, (0.8, 0.5)), settings)

    assert str(caught.value).startswith(f"aggregator 'vote-weighted': {why}")
    assert "\n" not in str(caught.value)
