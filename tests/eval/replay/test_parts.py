from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from eval.replay.parts import N_FOLDS, make_parts

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from tests.eval.replay.conftest import MakeTable

SPLITS = st.sampled_from(["train", "train", "train!", "test", "test!", "ood"])


def ids(table: OutcomeTable) -> list[str]:
    return [query.id for query in table.queries]


def fold_of(query_id: str) -> int:
    return int(hashlib.sha1(query_id.encode()).hexdigest(), 16) % N_FOLDS


@pytest.mark.parametrize("split", ["test", "train!"])
def test_a_table_without_ordinary_train_rows_is_refused(make_table: MakeTable, split: str):
    with pytest.raises(ConfigError, match=r"^made: no train split .* mark some queries 'train'$"):
        make_parts(make_table(f"{split} law 1", "test law 1"))


@pytest.mark.parametrize("other", ["train", "train!"])
def test_a_table_with_train_alone_is_refused_with_the_remedy(make_table: MakeTable, other: str):
    with pytest.raises(ConfigError, match=r"only train; judge out of fold \(--out-of-fold\)"):
        make_parts(make_table("train law 1", f"{other} law 1"))


def test_each_split_but_train_is_judged_after_one_fit_on_train(make_table: MakeTable):
    table = make_table("old law 1", "ood law 1", "train law 1", "test law 1", "train law 0")

    parts = make_parts(table)

    assert [(part.name, ids(part.judged)) for part in parts] == [
        ("test", ["q3"]),
        ("ood", ["q1"]),
        ("old", ["q0"]),
    ]
    assert [[ids(each.train) for each in part.rounds] for part in parts] == [[["q2", "q4"]]] * 3
    assert all(part.rounds[0].judged is part.judged for part in parts)


def test_flagged_rows_are_parts_of_their_own_and_teach_nothing(make_table: MakeTable):
    table = make_table("train law 1", "train! law 1", "test law 1", "test! law 1", "ood! law 1")

    parts = make_parts(table)

    assert {part.name: ids(part.judged) for part in parts} == {
        "test": ["q2"],
        "test-flagged": ["q3"],
        "ood-flagged": ["q4"],
    }
    assert {tuple(ids(part.rounds[0].train)) for part in parts} == {("q0",)}


@settings(max_examples=50, deadline=None)
@given(splits=st.lists(SPLITS, min_size=1, max_size=20))
def test_out_of_fold_each_ordinary_train_row_is_judged_once_by_a_fit_without_its_fold(
    make_table: MakeTable, splits: list[str]
):
    table = make_table(*["train law 1"] * 6, *(f"{split} law 1" for split in splits))
    ordinary = {query.id for query in table.split("train").queries}

    (part,) = make_parts(table, out_of_fold=True)

    judged = [query_id for each in part.rounds for query_id in ids(each.judged)]
    assert sorted(judged) == sorted(ordinary)
    assert ids(part.judged) == judged
    for each in part.rounds:
        (fold,) = {fold_of(query_id) for query_id in ids(each.judged)}
        assert set(ids(each.train)) == {i for i in ordinary if fold_of(i) != fold}


def test_too_few_train_rows_for_folds_are_refused(make_table: MakeTable):
    with pytest.raises(ConfigError, match="1 train queries are too few for folds; record more"):
        make_parts(make_table("train law 1", "test law 1"), out_of_fold=True)


def test_a_choice_of_categories_is_judged_by_a_fit_on_all(make_table: MakeTable):
    table = make_table("train law 1", "train art 1", "test law 1", "test art 1", "ood law 1")

    (part,) = make_parts(table, categories=["art"])

    assert (part.name, ids(part.judged)) == ("test", ["q3"])
    assert ids(part.rounds[0].train) == ["q0", "q1"]


def test_out_of_fold_a_choice_of_categories_is_judged_by_fits_on_all(make_table: MakeTable):
    table = make_table(*(f"train {'art' if row < 6 else 'law'} 1" for row in range(20)))

    (part,) = make_parts(table, out_of_fold=True, categories=["art"])

    assert sorted(ids(part.judged)) == [f"q{row}" for row in range(6)]
    for each in part.rounds:
        (fold,) = {fold_of(query_id) for query_id in ids(each.judged)}
        assert set(ids(each.train)) == {i for i in ids(table) if fold_of(i) != fold}


def test_a_fold_without_a_row_of_the_categories_is_no_round(make_table: MakeTable):
    table = make_table("train art 1", *["train law 1"] * 19)

    (part,) = make_parts(table, out_of_fold=True, categories=["art"])

    assert [ids(each.judged) for each in part.rounds] == [["q0"]]


def test_an_unknown_category_is_met_with_a_suggestion(make_table: MakeTable):
    with pytest.raises(ConfigError, match="no category 'lw'; did you mean 'law'"):
        make_parts(make_table("train law 1", "test law 1"), categories=["lw"])


@pytest.mark.parametrize(
    ("out_of_fold", "category", "said"),
    [
        (False, "old", r"no query of \['old'\] outside train; judge out of fold"),
        (True, "new", r"no query of \['new'\] in train to judge out of fold; leave out"),
    ],
)
def test_categories_that_leave_nothing_to_judge_are_refused(
    make_table: MakeTable, out_of_fold: bool, category: str, said: str
):
    table = make_table(*["train old 1"] * 9, "test new 1")

    with pytest.raises(ConfigError, match=said):
        make_parts(table, out_of_fold=out_of_fold, categories=[category])
