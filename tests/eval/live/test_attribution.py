from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from eval.live.attribution import Made, attribute, read_attribution

NAN = math.nan
NAMES = ("ann", "bea", "cy")
unhurried = settings(max_examples=80, deadline=None)
SCORE = st.sampled_from([0.0, 0.25, 1.0, NAN])
EXPERT = st.sampled_from(NAMES)
ROWS = st.lists(
    st.tuples(
        st.tuples(SCORE, SCORE, SCORE),
        SCORE,
        st.none() | EXPERT,
        st.lists(EXPERT, max_size=3),
        st.sampled_from(["law", "art"]),
    ),
    min_size=1,
    max_size=30,
)


def make_table(
    scores: Sequence[Sequence[float]], categories: Sequence[str] | None = None
) -> OutcomeTable:
    names = categories or ["law"] * len(scores)
    queries = tuple(RecordedQuery(f"q{i}", f"p{i}", "test", name) for i, name in enumerate(names))
    experts = tuple(RecordedExpert(name) for name in NAMES)
    return OutcomeTable("t", queries, experts, np.array(scores, np.float32))


def values(table: OutcomeTable, best: Sequence[float], made: Made) -> dict[str, float]:
    (found,) = attribute(table, np.array(best), [made], n_resamples=20)
    return {name: term.value for name, term in found.terms.items()}


def one(score: float, first: str | None, *panel: str) -> Made:
    return Made("m", np.array([score]), [first], [panel], 1.0)


@given(ROWS)
@unhurried
def test_terms_add_up_to_the_gain_and_to_the_gap(
    rows: list[tuple[tuple[float, ...], float, str | None, list[str], str]],
) -> None:
    table = make_table([row[0] for row in rows], [row[4] for row in rows])
    made = Made("m", np.array([r[1] for r in rows]), [r[2] for r in rows], [r[3] for r in rows], 2)
    best = table.score[:, 0].astype(np.float64)

    (found,) = attribute(table, best, [made], n_resamples=20)

    terms = {name: term.value for name, term in found.terms.items()}
    assert found.n + found.n_unknown == len(rows)
    if not found.n:
        assert all(math.isnan(value) for value in terms.values())
        return
    near = pytest.approx
    assert terms["gain"] == near(terms["routing"] + terms["aggregation"], abs=1e-12)
    assert terms["aggregation"] == near(terms["potential"] - terms["unused"], abs=1e-12)
    assert terms["gap"] == near(terms["unused"] + terms["missed"], abs=1e-12)
    assert terms["missed"] >= 0


@given(ROWS, st.sampled_from(NAMES))
@unhurried
def test_an_expert_alone_gains_by_being_chosen_and_by_nothing_else(
    rows: list[tuple[tuple[float, ...], float, str | None, list[str], str]], expert: str
) -> None:
    table = make_table([row[0] for row in rows])
    own = table.score[:, NAMES.index(expert)].astype(np.float64)
    made = Made(expert, own, [expert] * len(rows), [(expert,)] * len(rows), 1.0)

    (found,) = attribute(table, table.score[:, 0].astype(np.float64), [made], n_resamples=20)

    for name in ("aggregation", "potential", "unused"):
        value = found.terms[name].value
        assert value == 0 or (not found.n and math.isnan(value))


def test_the_terms_of_one_query_are_differences_of_the_answers_on_its_way() -> None:
    table = make_table([[0.25, 0.5, 1.0]])

    found = values(table, [0.0], one(0.75, "ann", "ann", "bea"))

    assert found == {
        "accuracy": 0.75,
        "gain": 0.75,
        "routing": 0.25,
        "aggregation": 0.5,
        "potential": 0.25,
        "unused": -0.25,
        "missed": 0.5,
        "gap": 0.25,
    }


def test_a_query_that_nobody_was_asked_is_worth_nothing() -> None:
    found = values(make_table([[1.0, 1.0, 0.0]]), [1.0], one(0.0, None))

    assert (found["routing"], found["aggregation"], found["potential"]) == (-1, 0, 0)
    assert (found["missed"], found["gap"]) == (1, 1)


@pytest.mark.parametrize(
    ("scores", "best", "made"),
    [
        ([NAN, 1, 1], 1.0, one(1.0, "ann", "ann", "bea")),
        ([1, 1, 1], NAN, one(1.0, "ann", "ann")),
        ([1, 1, 1], 1.0, one(NAN, "ann", "ann")),
        ([1, NAN, 1], 1.0, one(1.0, "ann", "bea")),
        ([1, 1, 1], 1.0, one(1.0, "dee", "ann")),
    ],
    ids=["first choice", "best single", "own", "all who were asked", "an expert without answers"],
)
def test_a_query_with_an_unknown_answer_on_its_way_is_in_no_term(
    scores: list[float], best: float, made: Made
) -> None:
    table = make_table([scores, [1, 0, 0]])
    both = Made(
        "m",
        np.array([made.score[0], 1.0]),
        [made.first[0], "ann"],
        [made.panel[0], ("ann",)],
        1.0,
    )

    (found,) = attribute(table, np.array([best, 0.0]), [both], n_resamples=20)

    assert (found.n, found.n_unknown) == (1, 1)
    assert found.terms["gain"].value == 1


def test_the_best_known_answer_of_those_asked_stands_for_all_of_them() -> None:
    found = values(make_table([[0.5, NAN, 0.0]]), [0.0], one(0.5, "ann", "ann", "bea"))

    assert (found["potential"], found["missed"]) == (0, 0)


def test_intervals_are_paired_so_what_is_always_so_has_none_of_width() -> None:
    rng = np.random.default_rng(3)
    ann = rng.integers(0, 2, 40).astype(float)
    table = make_table(np.stack([ann, 1 - ann, ann], axis=1).tolist())
    made = Made("m", ann, ["ann"] * 40, [("ann",)] * 40, 1.0)

    (found,) = attribute(table, ann, [made], n_resamples=200)

    assert found.terms["gain"] == (0, 0, 0)
    assert found.terms["missed"].low < found.terms["missed"].value < found.terms["missed"].high


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    table = make_table([[i % 2, (i // 2) % 2, 0] for i in range(37)])
    own, best = table.score[:, 0].astype(float), table.score[:, 1].astype(float)
    made = Made("m", own, ["ann"] * 37, [("ann",)] * 37, 1.0)

    first, again, other = (
        attribute(table, best, [made], seed=seed, n_resamples=50)[0].terms for seed in (1, 1, 2)
    )

    assert first == again
    assert first["gain"] != other["gain"]
    assert first["gain"].value == other["gain"].value


def test_no_interval_is_given_where_queries_are_alone_in_their_categories() -> None:
    table = make_table([[1, 0, 0], [0, 1, 0]], ["law", "art"])
    made = Made("m", np.array([1.0, 0.0]), ["ann"] * 2, [("ann",)] * 2, 1.0)

    (found,) = attribute(table, np.zeros(2), [made], n_resamples=20)

    assert found.terms["gain"].value == 0.5
    assert math.isnan(found.terms["gain"].low)


def test_an_attribution_is_read_again_as_it_was() -> None:
    table = make_table([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    made = Made("m", np.array([1.0, 0.0, 1.0]), ["ann"] * 3, [("ann",)] * 3, 2.5)
    (found,) = attribute(table, np.zeros(3), [made], n_resamples=20)

    assert read_attribution(found.to_json()) == found


def test_without_methods_nothing_is_taken_apart() -> None:
    assert attribute(make_table([[1, 0, 0]]), np.zeros(1), []) == []
