from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.distinct import distinct_rows, row_keys

unhurried = settings(max_examples=60, deadline=None)
CELL = st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300, 5e-324])
TABLES = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(CELL, min_size=m, max_size=m), min_size=1, max_size=20)
)


@unhurried
@given(TABLES)
def test_distinct_rows_are_found_with_their_numbers(rows: list[list[float]]):
    expected = Counter(repr(row) for row in rows)

    found = distinct_rows(np.array(rows), at_most=len(rows))

    assert found is not None
    distinct, count = found
    assert dict(zip(map(repr, distinct.tolist()), count.tolist(), strict=True)) == expected
    assert (np.diff(count) <= 0).all()


@unhurried
@given(TABLES, st.floats(0, 21))
def test_more_of_them_than_asked_for_are_not_returned(rows: list[list[float]], at_most: float):
    n_distinct = len(Counter(repr(row) for row in rows))

    assert (distinct_rows(np.array(rows), at_most=at_most) is None) == (n_distinct > at_most)


def test_rows_that_share_a_hash_are_not_taken_for_one_another():
    first = np.array([[0.25], [0.5]])
    keys = row_keys(first)
    second = np.array([0.75, 0.0])
    second.view(np.uint64)[1] = second.view(np.uint64)[0] ^ keys[0] ^ keys[1]
    table = np.column_stack([first, second])

    assert len(set(row_keys(table).tolist())) == 1
    assert distinct_rows(table, at_most=2) is None
