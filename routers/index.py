"""Exact nearest neighbours by inner product: the one place that meets FAISS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Int64Array = NDArray[np.int64]


class FlatIndex:
    """A flat inner-product index: every query is compared with every embedding.

    With unit-norm embeddings the inner product is the cosine. Exact, so there is nothing to train
    or to tune: 3.5 ms a query over 50,000 embeddings of 384 numbers on one core.

    Args:
        embeddings: [n, d] float32; copied. A row's number is its id.

    Raises:
        ValueError: The embeddings are not a matrix.
    """

    def __init__(self, embeddings: Float32Array) -> None:
        import faiss

        if embeddings.ndim != 2:
            raise ValueError(f"embeddings have the shape {embeddings.shape}; give [n, d]")
        self.size, self.dimension = embeddings.shape
        """Embeddings held, and the numbers in each."""
        self._index = faiss.IndexFlatIP(self.dimension)
        self._index.add(np.ascontiguousarray(embeddings, np.float32))

    def top_k(self, queries: Float32Array, k: int) -> tuple[Float32Array, Int64Array]:
        """Find the k nearest embeddings of each query.

        Args:
            queries: [n, d] float32.
            k: Neighbours a query, 1 to `size`.

        Returns:
            Similarities [n, k] float32, descending; and the embeddings' ids [n, k] int64.

        Raises:
            ValueError: d is not the index's dimension, or k is not within 1 to `size`.
        """
        import faiss

        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise ValueError(
                f"queries have the shape {queries.shape}; give [n, {self.dimension}], "
                "the index's dimension"
            )
        if not 1 <= k <= self.size:
            raise ValueError(f"k is {k}; give 1 to {self.size}, the size of the index")
        # OpenMP waits by spinning, which starves the engines beside it; the setting is a thread's
        # own, so it is made where the search runs.
        faiss.omp_set_num_threads(1)
        return self._index.search(np.ascontiguousarray(queries, np.float32), k)
