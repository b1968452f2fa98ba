"""Embeddings learned from the texts themselves: TF-IDF and a truncated SVD, without torch.

    text -+- words, pairs of words ---------- tf-idf, unit norm -+- projection on the axes
          +- 2, 3 and 4 characters in a row - tf-idf, unit norm -+  of the SVD, unit norm

The n-grams of characters carry what the words miss: languages that put no space between words,
inflection, code and formulas.

Source: latent semantic analysis, Deerwester et al. 1990, "Indexing by latent semantic analysis",
JASIS 41(6); weights as in scikit-learn's TfidfVectorizer (sublinear tf, smooth idf); the SVD is
scikit-learn's randomized one, arXiv 0909.4061, algorithms 4.4 and 5.1.

Deviations:
- Each of the two kinds of n-grams has unit norm, so neither drowns the other.
- A text lies at its projection on the axes, not divided by the singular values.
- Vocabulary, weights and axes come from at most 3,000 of the texts, drawn with a fixed seed.
- The n-grams are counted here, text by text: only fitting loads scikit-learn, and an embedding
  cannot depend on the other texts of its batch.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from composer.errors import ConfigError
from routers.artefact import load_artefact, save_artefact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

_MAX_WORD_NGRAMS = 8_000
_MAX_CHARACTER_NGRAMS = 16_000
_MAX_FITTED_TEXTS = 3_000
_KIND = "tfidf encoder"
_SEED = 0
_NOISE = 1e-4
"""Relative size of what float32 may leave of a singular value or a projection that is 0."""

# A kana or a Han character is a word by itself: no space says where a longer one ends.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class _Terms:
    """The known n-grams, each with its column: those of words first, then those of characters."""

    words: Mapping[str, int]
    characters: Mapping[str, int]
    idf: Float32Array
    """[f], by column."""

    def weigh(self, text: str) -> tuple[NDArray[np.intp], Float32Array]:
        """The columns of a text's known n-grams, and their tf-idf weights."""
        parts = [
            self._weigh(self.words, _word_ngrams(text)),
            self._weigh(self.characters, _character_ngrams(text)),
        ]
        columns, weights = zip(*parts, strict=True)
        return np.concatenate(columns), np.concatenate(weights)

    def _weigh(
        self, known: Mapping[str, int], ngrams: Iterable[str]
    ) -> tuple[NDArray[np.intp], Float32Array]:
        counts = Counter(map(known.get, ngrams))
        counts.pop(None, None)
        columns = np.array(list(counts), np.intp)
        tf = np.array(list(counts.values()), np.float32)
        weights = (1 + np.log(tf)) * self.idf[columns]
        return columns, weights / np.float32(np.linalg.norm(weights) or 1)


@dataclass(frozen=True, slots=True)
class _Fitted:
    terms: _Terms
    axes: Float32Array
    """Right singular vectors [f, r], that of the largest singular value first."""
    digest: str
    """Of all of it."""


class TfidfEncoder:
    """Embeds a text by the words and characters that it shares with the texts it was fitted on.

    Embeddings are deterministic and the same in any batch. A text that has no n-gram in common
    with the fitted ones, such as an empty one, is embedded as the first axis: roughly what the
    fitted texts have most in common.

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
        return f"tf-idf, {self.dimension}, {self._fitted.digest}"

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn the vocabulary, its weights and the axes; what was learned before is forgotten.

        The vocabulary is bounded: those 8,000 n-grams of words and 16,000 of characters that occur
        in the most texts.

        Args:
            texts: In any languages. Blank ones teach nothing.

        Raises:
            ConfigError: Every text is blank, or there is none.
        """
        texts = [text for text in texts if text.strip()]
        if not texts:
            raise ConfigError("encoder 'tfidf' has nothing to learn from; fit it on some prompts")
        if len(texts) > _MAX_FITTED_TEXTS:
            drawn = np.random.default_rng(_SEED).choice(
                len(texts), _MAX_FITTED_TEXTS, replace=False
            )
            texts = [texts[int(at)] for at in np.sort(drawn)]
        words = _most_frequent(map(_word_ngrams, texts), _MAX_WORD_NGRAMS)
        characters = _most_frequent(map(_character_ngrams, texts), _MAX_CHARACTER_NGRAMS)
        frequency = np.array([*words.values(), *characters.values()], np.float64)
        idf = np.log((1 + len(texts)) / (1 + frequency)) + 1
        terms = _terms(words, characters, idf.astype(np.float32))
        self._state = _with_digest(terms, _axes(terms, texts, self.dimension))
        return self

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`.

        Raises:
            ConfigError: It is not fitted.
        """
        fitted = self._fitted
        rank = fitted.axes.shape[1]
        embeddings = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(embeddings, texts, strict=True):
            columns, weights = fitted.terms.weigh(text)
            projection = weights @ fitted.axes[columns]
            norm = np.linalg.norm(projection)
            if norm > _NOISE:
                row[:rank] = projection / norm
            else:
                row[0] = 1
        return embeddings

    def save(self, folder: Path) -> None:
        """Write what it has learned, for `load`.

        Args:
            folder: Made when needed; for this encoder alone.

        Raises:
            ConfigError: It is not fitted.
        """
        terms, axes = self._fitted.terms, self._fitted.axes
        meta = {
            "dimension": self.dimension,
            "words": list(terms.words),
            "characters": list(terms.characters),
        }
        save_artefact(folder, _KIND, meta, {"idf": terms.idf, "axes": axes})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder that was saved there; its embeddings are the same.

        Raises:
            ConfigError: There is none, it is not whole, or a newer program saved it.
        """
        meta, arrays = load_artefact(folder, _KIND)
        encoder = cls(meta["dimension"])
        idf, axes = (np.asarray(arrays[name], np.float32) for name in ("idf", "axes"))
        encoder._state = _with_digest(_terms(meta["words"], meta["characters"], idf), axes)
        return encoder

    @property
    def _fitted(self) -> _Fitted:
        if self._state is None:
            raise ConfigError("encoder 'tfidf' is not fitted; call fit with prompts, or load one")
        return self._state


def _word_ngrams(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def _character_ngrams(text: str) -> list[str]:
    # The spaces around it tell beginnings and ends, and give a single letter its pairs.
    line = f" {' '.join(text.casefold().split())} "
    pairs = list(map(add, line, line[1:]))
    triples = list(map(add, pairs, line[2:]))
    return [*pairs, *triples, *map(add, triples, line[3:])]


def _most_frequent(texts: Iterable[Sequence[str]], limit: int) -> dict[str, int]:
    """The n-grams that occur in the most texts, and in how many."""
    n_texts = Counter[str]()
    for ngrams in texts:
        n_texts.update(set(ngrams))
    ranked = sorted(n_texts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:limit])


def _terms(words: Collection[str], characters: Collection[str], idf: Float32Array) -> _Terms:
    return _Terms(
        {ngram: column for column, ngram in enumerate(words)},
        {ngram: column for column, ngram in enumerate(characters, len(words))},
        idf,
    )


def _axes(terms: _Terms, texts: Sequence[str], dimension: int) -> Float32Array:
    """The right singular vectors [f, r] of the texts' weights, r <= dimension."""
    from scipy.sparse import csr_matrix  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.utils import extmath  # pyright: ignore[reportMissingTypeStubs]

    columns, weights = zip(*map(terms.weigh, texts), strict=True)
    ends = np.cumsum([0, *map(len, columns)])
    shape = (len(texts), len(terms.idf))
    matrix = csr_matrix((np.concatenate(weights), np.concatenate(columns), ends), shape=shape)
    _, singular, vectors = cast("Any", extmath).randomized_svd(
        matrix,
        n_components=min(dimension, *shape),
        n_iter=2,
        power_iteration_normalizer="QR",
        random_state=_SEED,
    )
    is_real = singular > _NOISE * singular[0]
    return np.ascontiguousarray(vectors[is_real].T, np.float32)


def _with_digest(terms: _Terms, axes: Float32Array) -> _Fitted:
    vocabulary = json.dumps([list(terms.words), list(terms.characters)])
    digest = blake2b(vocabulary.encode(), digest_size=16)
    for array in (terms.idf, axes):
        digest.update(repr(array.shape).encode())
        digest.update(array.astype("<f4").tobytes())
    return _Fitted(terms, axes, digest.hexdigest())
