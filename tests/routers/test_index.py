from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.index import FlatIndex

if TYPE_CHECKING:
    from composer.types import Float32Array


def unit(seed: int, n: int, dimension: int) -> Float32Array:
    rows = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 40), st.integers(1, 9), st.data())
def test_top_k_agrees_with_sorting_all_inner_products(
    seed: int, n: int, size: int, dimension: int, data: st.DataObject
):
    k = data.draw(st.integers(1, size))
    embeddings, queries = unit(seed, size, dimension), unit(seed + 1, n, dimension)

    similarities, ids = FlatIndex(embeddings).top_k(queries, k)

    products = queries @ embeddings.T
    order = np.argsort(-products, axis=1)[:, :k]
    expected = np.take_along_axis(products, order, axis=1)
    np.testing.assert_allclose(similarities, expected, atol=1e-5)
    # Ties may come in any order, so an id is checked by the product it stands for.
    np.testing.assert_allclose(np.take_along_axis(products, ids, axis=1), expected, atol=1e-5)
    assert all(len(set(row)) == k for row in ids.tolist())
    assert (np.diff(similarities, axis=1) <= 0).all()
    assert (similarities.dtype, ids.dtype) == (np.float32, np.int64)


def test_no_queries_have_no_neighbours():
    similarities, ids = FlatIndex(unit(0, 4, 3)).top_k(np.empty((0, 3), np.float32), 2)

    assert similarities.shape == ids.shape == (0, 2)


def test_queries_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 5\); give \[n, 3\]"):
        FlatIndex(unit(0, 4, 3)).top_k(unit(0, 2, 5), 1)


@pytest.mark.parametrize("k", [0, 5])
def test_more_neighbours_than_there_are_embeddings_are_refused(k: int):
    with pytest.raises(ValueError, match="give 1 to 4"):
        FlatIndex(unit(0, 4, 3)).top_k(unit(0, 1, 3), k)


def test_an_index_of_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"give \[n, d\]"):
        FlatIndex(np.ones(3, np.float32))
