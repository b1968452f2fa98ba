"""The comparison counts what it says it counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import Answers, OutcomeTable, RecordedExpert, RecordedQuery
from eval.cascade import WAYS, Comparison, compare, mean_points
from eval.cascade_chart import draw_curves

if TYPE_CHECKING:
    from composer.types import Float32Array

COSTS = (1e-6, 2e-6, 3e-6, 1e-4)


class LengthEncoder:
    """Texts as unit vectors of two dimensions, by their length."""

    dimension = 2

    def encode(self, texts: Sequence[str]) -> Float32Array:
        angles = np.array([len(text) for text in texts], np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def make_table(split: str, n: int, seed: int) -> OutcomeTable:
    """Three cheap experts that are right independently, and a dear one that is right more often."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 4, n)
    is_right = rng.random((n, 4)) < np.array([0.55, 0.6, 0.62, 0.85])
    wrong = (right[:, None] + rng.integers(1, 4, (n, 4))) % 4
    codes = np.where(is_right, right[:, None], wrong).astype(np.int32)
    queries = tuple(RecordedQuery(f"{split}{i}", "x" * (i % 7 + 1), split) for i in range(n))
    experts = tuple(RecordedExpert(name) for name in ("ann", "ben", "cas", "dear"))
    cost = np.tile(np.array(COSTS, np.float32), (n, 1))
    answers = Answers(("A", "B", "C", "D"), codes)
    return OutcomeTable(
        "made", queries, experts, is_right.astype(np.float32), cost, answers=answers
    )


@pytest.fixture(scope="module")
def found() -> Comparison:
    """A comparison of all methods, fitted on 500 queries and judged on 600."""
    train, judged = make_table("train", 500, 1), make_table("test", 600, 2)
    router = "neighbours[k=20]"
    return compare(train, judged, LengthEncoder(), router=router, n_stages=3, n_resamples=200)


def test_train_says_who_is_the_cheapest_and_who_the_best(found: Comparison) -> None:
    assert (found.cheapest, found.best) == ("ann", "dear")
    assert (found.n_train, found.n) == (500, 600)


def test_agreeing_experts_cost_less_than_mixing_at_random(found: Comparison) -> None:
    at_95 = WAYS.index(0.95)

    assert found.shares["cascade"][at_95].high < found.shares["random mix"][at_95].value


def test_mixing_at_random_costs_what_its_share_of_dear_queries_costs(found: Comparison) -> None:
    for way, figure in zip(WAYS, found.shares["random mix"], strict=True):
        assert figure.value == pytest.approx((1 - way) * COSTS[0] / COSTS[3] + way, rel=1e-5)


def test_every_figure_lies_in_its_interval(found: Comparison) -> None:
    for figures in (*found.shares.values(), found.saved):
        for figure in figures:
            assert np.isnan(figure.value) or figure.low - 1e-9 <= figure.value <= figure.high + 1e-9


def test_what_is_saved_is_the_routers_share_less_the_cascades(found: Comparison) -> None:
    router = found.shares["router (neighbours[k=20])"]
    for saved, theirs, ours in zip(found.saved, router, found.shares["cascade"], strict=True):
        if not np.isnan(saved.value):
            assert saved.value == pytest.approx(theirs.value - ours.value)


def test_the_chosen_cascade_is_judged_on_queries_that_it_has_not_seen(found: Comparison) -> None:
    expected = found.chosen.summary["accuracy"]["mean"]

    assert found.chosen.summary["n"] == 500
    assert found.chosen_is["accuracy"].value == pytest.approx(expected, abs=0.06)
    assert found.chosen_is["accuracy"].value != pytest.approx(expected, abs=1e-9)


def test_the_curves_are_drawn(found: Comparison, tmp_path: Path) -> None:
    curves = {curve.method: mean_points(curve) for curve in found.curves}

    draw_curves(tmp_path / "curves.svg", curves, mean_points(found.alone), "made")

    assert "<svg" in (tmp_path / "curves.svg").read_text("utf-8")


@pytest.mark.parametrize("name", ["curves.gif", "nowhere/curves.svg"])
def test_a_picture_that_cannot_be_drawn_is_refused(name: str, tmp_path: Path) -> None:
    points = (np.ones(1), np.ones(1))

    with pytest.raises(ConfigError, match="cannot draw"):
        draw_curves(tmp_path / name, {"a": points}, points, "made")
