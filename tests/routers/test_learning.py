from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery
from composer.types import Annotation, Evidence
from routers.learning import N_FOLDS, Batch, Training, cross_fit, make_training

if TYPE_CHECKING:
    from collections.abc import Mapping

    from composer.types import Float32Array

NAN = math.nan


def make_table(n: int = 6, *, seed: int = 0) -> OutcomeTable:
    """Queries of two categories and none, in no order of their ids; two experts, with gaps."""
    rng = np.random.default_rng(seed)
    queries = [
        RecordedQuery(
            f"q{number:02}",
            f"prompt {number}",
            "train",
            ("law", "maths", None)[number % 3],
            annotation=Annotation({"number": number}),
        )
        for number in map(int, rng.permutation(n))
    ]
    score = rng.choice([NAN, 0.0, 0.5, 1.0], (n, 2)).astype(np.float32)
    experts = (RecordedExpert("a"), RecordedExpert("b"))
    return OutcomeTable("made", tuple(queries), experts, score, cost_usd=score + 1)


def make_lesson(table: OutcomeTable) -> Training:
    """Each row embedded by the number in its prompt."""
    numbers = np.array([[float(q.prompt.split()[1])] for q in table.queries], np.float32)
    return make_training(table, np.repeat(numbers, 2, axis=1), numbers)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_everything_of_a_row_stays_together_when_rows_are_sorted_by_id(seed: int, n: int):
    table = make_table(n, seed=seed)
    rows = {query.id: row for row, query in enumerate(table.queries)}

    training = make_lesson(table)

    assert list(training.batch.ids) == sorted(rows)
    assert training.cost_usd is not None
    assert table.cost_usd is not None
    for at, query_id in enumerate(training.batch.ids):
        query, row = table.queries[rows[query_id]], rows[query_id]
        number = float(query_id[1:])
        assert training.batch.texts[at] == query.prompt
        assert training.batch.categories[at] == query.category
        assert training.batch.annotations[at] == Annotation({"number": number})
        assert training.batch.embeddings[at].tolist() == [number, number]
        assert training.batch.semantic[at].tolist() == [number]
        np.testing.assert_array_equal(training.score[at], table.score[row])
        np.testing.assert_array_equal(training.cost_usd[at], table.cost_usd[row])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_a_tables_rows_does_not_matter(seed: int):
    table = make_table(20)
    mixed = table.rows(np.random.default_rng(seed).permutation(20))

    expected, found = make_lesson(table), make_lesson(mixed)

    assert found.batch.ids == expected.batch.ids
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.folds, expected.folds)


def test_a_query_stays_in_its_fold_whatever_other_rows_there_are():
    table = make_table(40)
    whole = make_lesson(table)
    fold = dict(zip(whole.batch.ids, whole.folds.tolist(), strict=True))

    few = make_lesson(table.rows([3, 11, 27]))

    assert few.folds.tolist() == [fold[query_id] for query_id in few.batch.ids]
    assert set(fold.values()) == set(range(N_FOLDS))


def test_folds_of_another_salt_are_others():
    table = make_table(40)
    numbers = np.zeros((40, 1), np.float32)

    first, second = (make_training(table, numbers, numbers, salt=salt) for salt in ("a", "b"))

    assert first.folds.tolist() != second.folds.tolist()


def test_rows_of_a_batch_come_in_the_order_wanted():
    batch = make_lesson(make_table()).batch

    some = batch.rows(np.array([4, 1, 1]))

    assert len(some) == 3
    assert some.ids == ("q04", "q01", "q01")
    assert some.texts == ("prompt 4", "prompt 1", "prompt 1")
    assert some.embeddings[:, 0].tolist() == [4, 1, 1]
    assert some.semantic[:, 0].tolist() == [4, 1, 1]
    assert some.categories == ("maths", "maths", "maths")
    assert some.annotations[0] == Annotation({"number": 4})


def test_rows_of_a_batch_are_those_of_a_mask():
    batch = make_lesson(make_table()).batch

    assert batch.rows(np.arange(6) % 2 == 1).ids == ("q01", "q03", "q05")
    assert len(batch.rows(np.zeros(6, bool))) == 0


def test_a_batch_without_categories_is_otherwise_the_same():
    batch = make_lesson(make_table()).batch

    hidden = batch.without_categories()

    assert set(hidden.categories) == {None}
    assert replace(hidden, categories=batch.categories).__dict__ == batch.__dict__


def test_rows_of_a_training_are_those_of_all_of_its_parts():
    training = make_lesson(make_table())

    some = training.rows(np.array([5, 0]))

    assert some.batch.ids == ("q05", "q00")
    assert some.names == ("a", "b")
    assert training.cost_usd is not None
    assert some.cost_usd is not None
    for found, of in (
        (some.score, training.score),
        (some.folds, training.folds),
        (some.cost_usd, training.cost_usd),
    ):
        np.testing.assert_array_equal(found, of[[5, 0]])


def test_rows_of_a_training_without_costs_have_none():
    training = replace(make_lesson(make_table()), cost_usd=None)

    assert training.rows(np.array([1])).cost_usd is None


def test_rows_without_a_category_are_a_category_of_their_own():
    training = make_lesson(make_table())

    assert training.categories == ("", "law", "maths")
    assert training.category_codes.tolist() == [1, 2, 0, 1, 2, 0]


@given(st.integers(1, 30))
def test_weights_make_all_categories_weigh_equally_and_have_the_mean_one(n: int):
    training = make_lesson(make_table(n))

    sums = np.bincount(training.category_codes, training.weights)

    np.testing.assert_allclose(sums, n / len(sums))
    assert training.weights.mean() == pytest.approx(1)


def test_the_prior_is_the_mean_over_the_categories_in_which_an_expert_is_known():
    score = np.array([[1, 0], [0, NAN], [NAN, NAN], [1, 1], [1, NAN], [NAN, NAN]], np.float32)
    training = replace(make_lesson(make_table()), score=score)

    np.testing.assert_allclose(training.prior, [(1 + 0.5) / 2, 0.5])
    assert training.prior.dtype == np.float32


def test_the_prior_of_an_expert_known_nowhere_is_unknown():
    training = replace(make_lesson(make_table()), score=np.array([[1, NAN]] * 6, np.float32))

    np.testing.assert_array_equal(training.prior, [1, NAN])


@dataclass(frozen=True)
class Witness:
    """A model that says which rows it learned from, and whether it was told a category."""

    seen: frozenset[str]
    settings: Mapping[str, Any]

    def predict(self, batch: Batch) -> Float32Array:
        """Rows of the query's that it has seen; and whether its category was told."""
        told = [category is not None for category in batch.categories]
        seen = [query_id in self.seen for query_id in batch.ids]
        return np.array([seen, told], np.float32).T

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        return Evidence("it is a witness")

    def without(self, column: int) -> Witness:
        return self

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}


def test_each_row_is_predicted_by_a_model_that_has_not_seen_its_fold_and_by_no_other():
    training = make_lesson(make_table(30))
    learned: list[frozenset[str]] = []

    def fit(rows: Training) -> Witness:
        learned.append(frozenset(rows.batch.ids))
        return Witness(learned[-1], {})

    hidden, known = cross_fit(fit, training)

    assert not hidden[:, 0].any()
    assert not known[:, 0].any()
    everything = frozenset(training.batch.ids)
    folds = np.unique(training.folds)
    assert sorted(map(sorted, learned)) == sorted(
        sorted(everything - frozenset(training.rows(training.folds == fold).batch.ids))
        for fold in folds
    )


def test_the_category_is_hidden_in_one_of_the_two_predictions():
    training = make_lesson(make_table(30))
    is_given = [category is not None for category in training.batch.categories]

    hidden, known = cross_fit(lambda rows: Witness(frozenset(), {}), training)

    assert hidden.dtype == known.dtype == np.float32
    assert not hidden[:, 1].any()
    assert known[:, 1].tolist() == is_given


def test_rows_that_are_all_of_one_fold_have_no_held_out_prediction():
    training = make_lesson(make_table(30))
    fold = training.rows(training.folds == 2)

    hidden, known = cross_fit(lambda rows: Witness(frozenset(), {}), fold)

    assert np.isnan(hidden).all()
    assert np.isnan(known).all()
    assert hidden.shape == known.shape == fold.score.shape
