from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.neighbours.nearest import Nearest, nearest_elsewhere, with_bonus

if TYPE_CHECKING:
    from composer.types import Float32Array
    from routers.index import Int64Array

SEEDS = st.integers(0, 2**32 - 1)


def recorded(seed: int, n: int = 30) -> tuple[Float32Array, Int64Array, Int64Array]:
    """Embeddings, folds and categories of n queries."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(n, 6))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), rng.integers(0, 3, n), rng.integers(0, 4, n)


def search(seed: int, k: int, *, within: bool = False) -> Nearest:
    embeddings, folds, codes = recorded(seed)
    groups = codes if within else np.zeros_like(codes)
    return nearest_elsewhere(embeddings, folds, groups, np.ones(len(folds), np.bool_), k)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 40))
def test_the_nearest_are_the_most_similar_of_the_other_folds(seed: int, k: int):
    embeddings, folds, _ = recorded(seed)

    found = search(seed, k)

    for row, (similarity, ids) in enumerate(zip(found.similarity, found.ids, strict=True)):
        others = np.flatnonzero(folds != folds[row])
        expected = np.sort(embeddings[others] @ embeddings[row])[::-1][:k]
        n_found = len(expected)
        np.testing.assert_allclose(similarity[:n_found], expected, atol=1e-6)
        assert set(similarity[n_found:].tolist()) <= {-math.inf}
        assert set(ids[:n_found]) <= set(others)


def test_within_a_group_there_may_be_nobody_elsewhere():
    embeddings, folds, codes = recorded(0)
    codes[folds == 0] = 9

    found = nearest_elsewhere(embeddings, folds, codes, np.ones(len(folds), np.bool_), 5)

    assert np.isneginf(found.similarity)[codes == 9].all()


def test_queries_that_do_not_count_are_nobodys_neighbours():
    embeddings, folds, codes = recorded(0)
    counts = np.arange(len(folds)) % 2 == 0

    found = nearest_elsewhere(embeddings, folds, np.zeros_like(codes), counts, 4)

    assert set(found.ids.ravel().tolist()) <= set(np.flatnonzero(counts).tolist())


def test_where_none_count_all_do():
    embeddings, folds, codes = recorded(0)
    nobody = np.zeros(len(folds), np.bool_)

    found = nearest_elsewhere(embeddings, folds, np.zeros_like(codes), nobody, 4)

    assert found.ids.tolist() == search(0, 4).ids.tolist()


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 25), st.sampled_from([0.1, 0.3, 2.0]))
def test_a_bonus_for_the_same_category_is_a_bonus_on_the_cosine(seed: int, k: int, bonus: float):
    embeddings, folds, codes = recorded(seed)

    found = with_bonus(search(seed, k), search(seed, k, within=True), codes, bonus)

    for row, (similarity, ids) in enumerate(zip(found.similarity, found.ids, strict=True)):
        others = np.flatnonzero(folds != folds[row])
        cosines = embeddings[others] @ embeddings[row] + bonus * (codes[others] == codes[row])
        expected = np.sort(cosines)[::-1][:k]
        n_found = len(expected)
        np.testing.assert_allclose(similarity[:n_found], expected, atol=1e-6)
        assert len(set(ids[:n_found])) == n_found
        assert dict(zip(others, cosines, strict=True))[ids[0]] == pytest.approx(similarity[0])
