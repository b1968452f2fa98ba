from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats  # pyright: ignore[reportMissingTypeStubs]

from composer.errors import ConfigError
from eval.live.compare import AMOUNTS, Point, Side, compare, mcnemar

NAN = math.nan
unhurried = settings(max_examples=60, deadline=None)
SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, NAN])] * 2), min_size=1, max_size=30)


def side(name: str, scores: Sequence[float], *, first: int = 0, **amounts: float) -> Side:
    """Queries from a number on, with the scores given and amounts for all of them."""
    cost_usd, tokens = amounts.get("cost_usd", NAN), amounts.get("tokens", NAN)
    return Side(
        name,
        {
            f"q{first + i}": Point(f"prompt {first + i}", "law", score, cost_usd, tokens)
            for i, score in enumerate(scores)
        },
    )


def binomial_p(wins: int, losses: int) -> float:
    stats: Any = scipy_stats
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)


@given(st.integers(0, 300), st.integers(0, 300))
@unhurried
def test_the_p_value_is_that_of_the_exact_binomial_test(wins: int, losses: int) -> None:
    if not wins + losses:
        assert mcnemar(wins, losses) == 1
    else:
        assert mcnemar(wins, losses) == pytest.approx(binomial_p(wins, losses), rel=1e-9)


def test_the_p_value_of_five_wins_and_no_loss_is_a_sixteenth() -> None:
    assert mcnemar(5, 0) == mcnemar(0, 5) == pytest.approx(1 / 16)


@given(SCORES)
@unhurried
def test_the_other_way_round_wins_are_losses_and_differences_negative(
    scores: list[tuple[float, float]],
) -> None:
    a, b = side("a", [x for x, _ in scores]), side("b", [y for _, y in scores])
    if all(math.isnan(x - y) for x, y in scores):
        with pytest.raises(ConfigError, match="a score is unknown"):
            compare(a, b, n_resamples=20)
        return

    one, other = (compare(*sides, n_resamples=20) for sides in ((a, b), (b, a)))

    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert one.n == one.wins + one.losses + one.ties == len(scores) - one.n_unknown
    mine, theirs = one.amounts["accuracy"], other.amounts["accuracy"]
    assert mine.difference.value == pytest.approx(-theirs.difference.value)
    assert mine.difference.value == pytest.approx(mine.a.value - mine.b.value)
    assert mine.difference.low == pytest.approx(-theirs.difference.high, nan_ok=True)
    assert one.p_mcnemar == other.p_mcnemar


def test_queries_that_one_of_them_was_not_judged_on_are_counted_and_in_no_figure() -> None:
    found = compare(side("a", [1, 0, 1]), side("b", [0, 1, 1, 1], first=1), n_resamples=20)

    assert (found.n, found.only_a, found.only_b) == (2, 1, 2)
    assert (found.wins, found.losses, found.ties) == (0, 0, 2)
    assert found.amounts["accuracy"].a.value == 0.5


def test_cost_and_tokens_are_compared_on_the_queries_where_both_are_known() -> None:
    a, b = side("a", [1, 1], cost_usd=0.002, tokens=30), side("b", [1, 1], cost_usd=0.001)
    long = {**a.points, "q1": Point("prompt 1", "law", 1.0, 0.002, 50.0)}
    free = {**b.points, "q0": Point("prompt 0", "law", 1.0, NAN, 10.0)}

    found = compare(Side("a", long), Side("b", free), n_resamples=20).amounts

    assert [v.value for v in (found["cost_usd_per_1k"].a, found["cost_usd_per_1k"].b)] == [2, 1]
    assert found["cost_usd_per_1k"].difference.value == pytest.approx(1.0)
    assert [v.value for v in (found["tokens"].a, found["tokens"].b)] == [30, 10]
    assert found["tokens"].difference.value == 20


def test_runs_that_share_no_query_are_refused_with_their_sizes() -> None:
    with pytest.raises(ConfigError, match="'a' was judged on 2 queries and 'b' on 3, and no id is"):
        compare(side("a", [1, 1]), side("b", [1, 1, 1], first=5))


def test_ids_that_stand_for_other_prompts_are_refused_with_the_first() -> None:
    b = side("b", [1, 1])
    other = {**b.points, "q1": Point("another", "law", 1.0, NAN, NAN)}

    with pytest.raises(ConfigError, match="1 of 2 ids that 'a' and 'b' share stand for other prom"):
        compare(side("a", [1, 1]), Side("b", other))


def test_intervals_are_none_where_queries_are_alone_in_their_categories() -> None:
    points = {f"q{i}": Point("p", f"c{i}", 1.0, NAN, NAN) for i in range(4)}

    found = compare(Side("a", points), Side("b", points), n_resamples=20)

    assert math.isnan(found.amounts["accuracy"].difference.low)
    assert found.amounts["accuracy"].difference.value == 0


def test_unknown_amounts_are_null_in_json() -> None:
    told = compare(side("a", [1, 0]), side("b", [0, 0]), n_resamples=20).to_json()

    assert set(told["amounts"]) == set(AMOUNTS)
    assert told["amounts"]["tokens"] == {k: [None] * 3 for k in ("a", "b", "difference")}
    assert told["amounts"]["accuracy"]["difference"][0] == 0.5
    assert (told["a"], told["wins"], told["losses"], told["ties"]) == ("a", 1, 0, 1)
