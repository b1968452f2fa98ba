"""Embeddings learned from the texts themselves: TF-IDF and a truncated SVD, without torch.

    text -- words and pairs of words -- tf-idf -- projection on the axes of the SVD -- unit norm

Source: latent semantic analysis, Deerwester et al. 1990, "Indexing by latent semantic analysis",
JASIS 41(6); weights are those of scikit-learn's TfidfVectorizer (sublinear tf, smooth idf), the
SVD is its randomized one, arXiv 0909.4061.

Deviations:
- A text lies at its projection on the axes, not divided by the singular values.
- A Han or kana character is a word by itself: no space says where a longer one ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from composer.errors import ConfigError
from routers.artefact import load_artefact, save_artefact

if TYPE_CHECKING:
    from composer.types import Float32Array

MAX_TERMS = 30_000
_KIND = "tfidf encoder"
_SEED = 0
_NOISE = 1e-4
"""Relative size of what float32 may leave of a singular value or a projection that is 0."""
_WORD = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"


@dataclass(frozen=True, slots=True)
class _Fitted:
    vectorizer: Any
    """scikit-learn's, which has no types."""
    terms: tuple[str, ...]
    """The known words and pairs, each at the number of its column."""
    axes: Float32Array
    """Right singular vectors [f, r], that of the largest singular value first."""

    @property
    def idf(self) -> Float32Array:
        """The terms' weights [f]."""
        return np.asarray(self.vectorizer.idf_ if self.terms else [], np.float32)


class TfidfEncoder:
    """Embeds a text by the words that it shares with the texts it was fitted on.

    A text that shares none with them, such as an empty one, is embedded as the first axis: roughly
    what the fitted texts have most in common. An embedding does not depend on its batch.

    Args:
        dimension: Numbers in an embedding. Where the fitted texts are too few or too alike to
            fill them, the last ones are 0 in every embedding.

    Raises:
        ConfigError: The dimension is less than 1.
    """

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 1:
            raise ConfigError(
                f"encoder 'tfidf' cannot have dimension {dimension!r}; give 1 or more"
            )
        self.dimension = dimension
        self._state: _Fitted | None = None

    @property
    def identity(self) -> str:
        """Its dimension and the hash of what it has learned.

        Raises:
            ConfigError: It is not fitted.
        """
        fitted = self._fitted
        digest = blake2b(json.dumps(fitted.terms).encode(), digest_size=16)
        for array in (fitted.idf, fitted.axes):
            digest.update(repr(array.shape).encode())
            digest.update(array.astype("<f4").tobytes())
        return f"tf-idf, {self.dimension}, {digest.hexdigest()}"

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn the vocabulary, its weights and the axes; what was learned before is forgotten.

        The vocabulary is bounded: the 30,000 words and pairs that occur most often. Where no text
        has a word, every text is embedded alike.

        Args:
            texts: In any languages.
        """
        self._state, _ = _learn(texts, self.dimension)
        return self

    def fit_encode(self, texts: Sequence[str]) -> Float32Array:
        """What `fit` and then `encode` of the same texts give, which are read once."""
        self._state, weights = _learn(texts, self.dimension)
        return self._embed(weights, len(texts))

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`.

        Raises:
            ConfigError: It is not fitted.
        """
        fitted = self._fitted
        can_know = bool(texts) and bool(fitted.terms)
        return self._embed(fitted.vectorizer.transform(texts) if can_know else None, len(texts))

    def save(self, folder: Path) -> None:
        """Write what it has learned, for `load`.

        Args:
            folder: Made when needed; for this encoder alone.

        Raises:
            ConfigError: It is not fitted.
        """
        fitted = self._fitted
        meta = {"dimension": self.dimension, "terms": fitted.terms}
        save_artefact(folder, _KIND, meta, {"idf": fitted.idf, "axes": fitted.axes})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder that was saved there; its embeddings are the same.

        Raises:
            ConfigError: There is none, it is not whole, or a newer program saved it.
        """
        meta, arrays = load_artefact(folder, _KIND)
        encoder = cls(meta["dimension"])
        terms = tuple(meta["terms"])
        vectorizer = _vectorizer(vocabulary={term: column for column, term in enumerate(terms)})
        if terms:
            vectorizer.idf_ = np.asarray(arrays["idf"], np.float32)
        encoder._state = _Fitted(vectorizer, terms, np.asarray(arrays["axes"], np.float32))
        return encoder

    def _embed(self, weights: Any, n_texts: int) -> Float32Array:
        """The embeddings of texts with these weights of the terms, sparse; None: they have none."""
        embeddings = np.zeros((n_texts, self.dimension), np.float32)
        if weights is None:
            embeddings[:, 0] = 1
            return embeddings
        axes = self._fitted.axes
        projections = np.asarray(weights @ axes, np.float32)
        norms = np.linalg.norm(projections, axis=1, keepdims=True)
        is_known = norms[:, 0] > _NOISE
        embeddings[is_known, : axes.shape[1]] = projections[is_known] / norms[is_known]
        embeddings[~is_known, 0] = 1
        return embeddings

    @property
    def _fitted(self) -> _Fitted:
        if self._state is None:
            raise ConfigError("encoder 'tfidf' is not fitted; call fit with prompts, or load one")
        return self._state


def _learn(texts: Sequence[str], dimension: int) -> tuple[_Fitted, Any]:
    """What is learned, and the texts' weights of the terms, sparse [n, f]; None: there are none."""
    from sklearn.utils.extmath import (  # pyright: ignore[reportMissingTypeStubs]
        randomized_svd,  # pyright: ignore[reportUnknownVariableType]
    )
    from threadpoolctl import (  # pyright: ignore[reportMissingTypeStubs]
        threadpool_limits,
    )

    vectorizer = _vectorizer(max_features=MAX_TERMS)
    if not any(map(re.compile(_WORD).search, texts)):
        return _Fitted(vectorizer, (), np.zeros((0, 0), np.float32)), None
    weights = vectorizer.fit_transform(texts)
    # In the order that `transform` gives, in which sums are the same to the last digit.
    weights.sort_indices()
    # BLAS waits by spinning, which starves whatever runs beside it.
    with threadpool_limits(1):
        _, singular, vectors = cast("Any", randomized_svd)(
            weights,
            n_components=min(dimension, *weights.shape),
            n_iter=2,
            power_iteration_normalizer="QR",
            random_state=_SEED,
        )
    axes = np.ascontiguousarray(vectors[singular > _NOISE * singular[0]].T, np.float32)
    terms = tuple(map(str, vectorizer.get_feature_names_out()))
    return _Fitted(vectorizer, terms, axes), weights


def _vectorizer(**settings: Any) -> Any:
    from sklearn.feature_extraction.text import (  # pyright: ignore[reportMissingTypeStubs]
        TfidfVectorizer,
    )

    make = cast("Any", TfidfVectorizer)
    return make(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD, dtype=np.float32, **settings
    )
