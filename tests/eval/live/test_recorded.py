from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from composer.errors import ConfigError
from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
    save_table,
)
from eval.live.recorded import join, read_recorded


def table(*splits: str, answers: str = "", texts: bool = False, cost: bool = False) -> OutcomeTable:
    """One query a split, of two experts; a letter of `answers` is the first one's, - is none."""
    shape = (len(splits), 2)
    codes = np.full(shape, NOT_RECORDED, np.int32)
    values = sorted(set(answers) - {"-"})
    for row, answer in enumerate(answers):
        codes[row, 0] = NOT_EXTRACTED if answer == "-" else values.index(answer)
    return OutcomeTable(
        "t",
        tuple(RecordedQuery(f"{s}{i}", f"prompt {s}{i}", s) for i, s in enumerate(splits)),
        (RecordedExpert("ann"), RecordedExpert("bea")),
        np.arange(2 * len(splits), dtype=np.float32).reshape(shape) / np.float32(10),
        cost_usd=np.ones(shape, np.float32) if cost else None,
        answers=Answers(tuple(values), codes) if answers else None,
        texts=np.full(shape, "said", np.object_) if texts else None,
    )


def test_the_train_rows_of_the_experts_are_read(tmp_path: Path) -> None:
    save_table(table("train", "test", "train"), tmp_path / "before")

    read = read_recorded(tmp_path / "before", ["bea"])

    assert [query.id for query in read.queries] == ["train0", "train2"]
    assert read.names == ("bea",)
    np.testing.assert_array_almost_equal(read.score, [[0.1], [0.5]])


def test_flagged_train_rows_are_not_chosen_on(tmp_path: Path) -> None:
    rows = table("train", "train")
    flagged = replace(rows.queries[0], flags=frozenset({"contaminated"}))
    save_table(replace(rows, queries=(flagged, rows.queries[1])), tmp_path / "before")

    read = read_recorded(tmp_path / "before", ["ann"])

    assert [query.id for query in read.queries] == ["train1"]


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (["a"], ["train0"]),
        (["a", "b"], ["train0", "train1"]),
        (["a", "z"], ["train0", "train1"]),
        (["a", None], ["train0", "train1"]),
    ],
)
def test_rows_of_other_categories_count_only_where_an_asked_one_has_none(
    tmp_path: Path, asked: list[str | None], rows: list[str]
) -> None:
    both = table("train", "train")
    named = zip(both.queries, ("a", "b"), strict=True)
    queries = tuple(replace(query, category=category) for query, category in named)
    save_table(replace(both, queries=queries), tmp_path / "before")

    read = read_recorded(tmp_path / "before", ["ann", "bea"], asked)

    assert [query.id for query in read.queries] == rows


def test_experts_of_which_nothing_is_recorded_are_named(tmp_path: Path) -> None:
    save_table(table("train"), tmp_path / "before")

    with pytest.raises(ConfigError, match=r"nothing is recorded of \['cy'\]; profile them as well"):
        read_recorded(tmp_path / "before", ["ann", "cy"])


def test_recorded_outcomes_without_a_train_row_are_refused(tmp_path: Path) -> None:
    save_table(table("test"), tmp_path / "before")

    with pytest.raises(ConfigError, match="no ordinary train row to choose the best single expert"):
        read_recorded(tmp_path / "before", ["ann"])


def test_joined_rows_keep_their_scores_and_answers() -> None:
    first, second = table("train", "train", answers="C-"), table("test", "test", answers="AC")

    joined = join(first, replace(second, name="second"))

    assert joined.name == "second"
    assert [q.id for q in joined.queries] == ["train0", "train1", "test0", "test1"]
    np.testing.assert_array_equal(joined.score, np.concatenate([first.score, second.score]))
    assert joined.answers is not None
    assert [joined.answers.value(row, 0) for row in range(4)] == ["C", None, "A", "C"]
    assert joined.answers.codes[1, 0] == NOT_EXTRACTED
    assert (joined.answers.codes[:, 1] == NOT_RECORDED).all()


def test_what_only_one_table_has_is_unknown_in_the_rows_of_the_other() -> None:
    joined = join(table("train", answers="-"), table("test", texts=True, cost=True))

    assert joined.cost_usd is not None
    assert joined.texts is not None
    assert joined.answers is not None
    np.testing.assert_array_equal(joined.cost_usd, [[np.nan, np.nan], [1, 1]])
    assert joined.texts.tolist() == [[None, None], ["said", "said"]]
    assert joined.answers.codes.tolist() == [[NOT_EXTRACTED, NOT_RECORDED], [NOT_RECORDED] * 2]
    assert joined.latency_s is None


def test_what_neither_table_has_is_not_made_up() -> None:
    joined = join(table("train"), table("test"))

    assert (joined.answers, joined.texts, joined.cost_usd) == (None, None, None)
