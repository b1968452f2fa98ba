from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
)
from composer.types import Message, Query

if TYPE_CHECKING:
    from composer.types import Float32Array

SCORES = st.one_of(st.just(math.nan), st.floats(0, 1, width=32))
CATEGORIES = st.sampled_from([None, "", "maths", "nature"])


def plain(score: Float32Array, categories: Sequence[str | None]) -> OutcomeTable:
    queries = [RecordedQuery(f"q{i}", "?", "train", name) for i, name in enumerate(categories)]
    experts = tuple(RecordedExpert(f"e{j}") for j in range(score.shape[1]))
    return OutcomeTable("plain", tuple(queries), experts, score)


@pytest.fixture
def table() -> OutcomeTable:
    """Five queries in three splits, one flagged, that three experts answered."""
    return OutcomeTable(
        "five",
        (
            RecordedQuery("a", "2 + 2?", "train", "maths", "4"),
            RecordedQuery("b", "Which colour?", "other"),
            RecordedQuery("c", " 2  +\n2? ", "test", "maths"),
            RecordedQuery("d", "WHICH COLOUR?", "test", "nature", flags=frozenset({"in_train"})),
            RecordedQuery("e", "Who?", "train", "nature"),
        ),
        (RecordedExpert("x"), RecordedExpert("y", is_partial=True), RecordedExpert("z")),
        np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3),
        cost_usd=np.arange(15, dtype=np.float32).reshape(5, 3),
        answers=Answers(("p", "q"), np.array([[0, 1, -1]] * 4 + [[-2, 1, 0]], np.int32)),
        texts=np.array([[f"{row}{name}" for name in "xyz"] for row in "abcde"], np.object_),
    )


def ids(table: OutcomeTable) -> str:
    return "".join(query.id for query in table.queries)


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ([True, False, False, True, False], "ad"),
        (np.array([False, True, False, False, True]), "be"),
        ([4, 0, 4], "eae"),
        (np.array([3]), "d"),
        ((), ""),
        ([], ""),
        (np.array([], np.int64), ""),
        (np.zeros(5, np.bool_), ""),
    ],
)
def test_rows_are_taken_by_a_mask_or_by_number(
    table: OutcomeTable, wanted: Sequence[int], there: str
):
    taken = table.rows(wanted)

    assert ids(taken) == there
    assert {cells.shape for cells in taken.cells().values()} == {(len(there), 3)}


def test_all_that_is_recorded_of_a_row_goes_with_it(table: OutcomeTable):
    taken = table.rows([4, 1])

    np.testing.assert_array_equal(taken.cells()["cost_usd"], [[12, 13, 14], [3, 4, 5]])
    assert taken.texts is not None
    assert taken.texts[0].tolist() == ["ex", "ey", "ez"]
    assert taken.answers is not None
    assert [taken.answers.value(0, column) for column in range(3)] == [None, "q", "p"]
    assert (taken.name, taken.experts, taken.latency_s) == ("five", table.experts, None)


def test_no_rows_are_a_table_too(table: OutcomeTable):
    empty = table.rows([])

    assert (empty.splits, empty.categories, empty.names) == ((), (), ("x", "y", "z"))
    assert np.isnan(empty.macro_means()).all()
    assert empty.folds().shape == (0,)


def test_flagged_rows_of_a_split_stand_apart(table: OutcomeTable):
    assert ids(table.split("test")) == "c"
    assert ids(table.split("test", flagged=True)) == "d"
    assert ids(table.split("train", flagged=True)) == ""


def test_splits_are_named_in_their_usual_order(table: OutcomeTable):
    assert table.splits == ("train", "test", "other")


def test_an_unknown_split_is_named_with_those_there_are(table: OutcomeTable):
    with pytest.raises(ConfigError, match=r"^five: no split 'tset'; did you mean 'test'\? choose"):
        table.split("tset")


def test_experts_are_taken_in_the_order_given(table: OutcomeTable):
    taken = table.with_experts(["z", "x"])

    assert taken.names == ("z", "x")
    np.testing.assert_array_equal(taken.cells()["cost_usd"][1], [5, 3])
    assert taken.answers is not None
    assert taken.answers.codes[0].tolist() == [NOT_EXTRACTED, 0]
    assert taken.answers.codes[4].tolist() == [0, NOT_RECORDED]
    assert ids(taken) == "abcde"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "five: no expert is left; name at least one"),
        (["x", "w"], r"five: no expert 'w'; choose from \['x', 'y', 'z'\]"),
        (["x", "y", "x"], "five: expert 'x' is named twice; name it once"),
    ],
)
def test_a_wrong_sub_pool_is_refused(table: OutcomeTable, names: list[str], said: str):
    with pytest.raises(ConfigError, match=f"^{said}$"):
        table.with_experts(names)


def test_rows_are_taken_by_category(table: OutcomeTable):
    assert table.categories == ("", "maths", "nature")
    assert ids(table.in_categories({"maths"})) == "ac"
    assert ids(table.in_categories({"", "nature"})) == "bde"
    assert table.category_codes.tolist() == [1, 0, 1, 2, 2]


def test_an_unknown_category_is_named(table: OutcomeTable):
    with pytest.raises(ConfigError, match=r"^five: no category 'math'; did you mean 'maths'\?"):
        table.in_categories({"math"})


def test_prompts_that_are_in_train_are_left_out_elsewhere(table: OutcomeTable):
    assert ids(table.deduplicated()) == "abde"


def test_one_prompt_twice_in_train_or_twice_outside_it_stays():
    queries = [RecordedQuery(str(i), "?", split) for i, split in enumerate(["train", "train"])]
    others = [RecordedQuery(str(i), "!", split) for i, split in enumerate(["test", "ood"], 2)]
    experts = (RecordedExpert("x"),)
    table = OutcomeTable("t", (*queries, *others), experts, np.zeros((4, 1), np.float32))

    assert ids(table.deduplicated()) == "0123"


def test_a_query_stays_in_its_fold_whatever_the_other_rows(table: OutcomeTable):
    order = [3, 0, 4]

    assert table.rows(order).folds(3).tolist() == table.folds(3)[order].tolist()


def test_folds_are_the_same_on_every_machine():
    table = plain(np.zeros((8, 1), np.float32), [None] * 8)

    assert table.folds().tolist() == [1, 1, 3, 1, 4, 4, 3, 1]


def test_folds_are_of_roughly_equal_size():
    table = plain(np.zeros((2000, 1), np.float32), [None] * 2000)

    sizes = np.bincount(table.folds(4))

    assert len(sizes) == 4
    assert (abs(sizes - 500) < 80).all()


def test_another_salt_gives_other_folds_inside_of_a_fold():
    table = plain(np.zeros((2000, 1), np.float32), [None] * 2000)
    inside = table.rows(table.folds() == 0)

    sizes = np.bincount(inside.folds(salt="inner"), minlength=5)

    assert set(inside.folds()) == {0}
    assert (abs(sizes - len(inside.queries) / 5) < 40).all()


@settings(deadline=None)
@given(st.data())
def test_means_are_of_what_is_known_and_categories_weigh_alike(data: st.DataObject):
    n, m = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    rows = data.draw(st.lists(st.lists(SCORES, min_size=m, max_size=m), min_size=n, max_size=n))
    categories = data.draw(st.lists(CATEGORIES, min_size=n, max_size=n))
    table = plain(np.array(rows, np.float32), categories)

    by_category = [
        [
            mean_of_known([rows[i][j] for i in range(n) if (categories[i] or "") == category])
            for j in range(m)
        ]
        for category in sorted({category or "" for category in categories})
    ]
    macro = [mean_of_known(column) for column in zip(*by_category, strict=True)]

    np.testing.assert_allclose(table.category_means(), by_category, rtol=1e-9)
    np.testing.assert_allclose(table.macro_means(), macro, rtol=1e-9)


def mean_of_known(scores: Sequence[float]) -> float:
    known = [score for score in scores if not math.isnan(score)]
    return fmean(known) if known else math.nan


def test_queries_are_what_a_user_would_have_asked(table: OutcomeTable):
    (hidden, *_) = table.to_queries(with_category=False)
    (told, *_) = table.to_queries(with_category=True)

    assert hidden == Query("a", (Message("user", "2 + 2?"),))
    assert told == Query("a", (Message("user", "2 + 2?"),), "maths")


@pytest.mark.parametrize("name", ["score", "latency_s", "texts"])
def test_parts_that_do_not_fit_together_are_refused(name: str):
    parts: dict[str, Any] = {
        "score": np.zeros((1, 1), np.float32),
        name: np.zeros((1, 2), np.float32),
    }

    with pytest.raises(ValueError, match=rf"^{name} has the shape \(1, 2\); the table's is"):
        OutcomeTable("t", (RecordedQuery("q", "?", "test"),), (RecordedExpert("x"),), **parts)


def test_codes_that_do_not_fit_are_refused():
    answers = Answers((), np.zeros((2, 1), np.int32))

    with pytest.raises(ValueError, match=r"^answers has the shape \(2, 1\)"):
        OutcomeTable("t", (), (RecordedExpert("x"),), np.zeros((0, 1), np.float32), answers=answers)
