"""What fitted routers embed queries with: meaning from an encoder, words from the training table.

    sqrt(1 - lexical_share) * the encoder's embedding  |  sqrt(lexical_share) * the TF-IDF one

so that the cosine of two queries is the mean of both cosines, weighted by the shares. The encoder
knows what texts mean and reads no more than their beginnings; TF-IDF reads all of them, in any
language, and tells one kind of task from another by its wording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from composer.errors import ConfigError
from routers.tfidf import TfidfEncoder

if TYPE_CHECKING:
    from composer.protocols import Encoder
    from composer.types import Float32Array

LEXICAL_SHARE = 0.5
_FOLDER = "lexical"


class Features:
    """Embeds texts by meaning and by words, once it is fitted on some.

    Args:
        encoder: Embeds by meaning.
        lexical_share: Of the TF-IDF cosine, in [0, 1]; 0: the encoder alone, 1: TF-IDF alone.

    Raises:
        ConfigError: The share is not a number in [0, 1].
    """

    def __init__(self, encoder: Encoder, lexical_share: float = LEXICAL_SHARE) -> None:
        if type(lexical_share) not in (int, float) or not 0 <= lexical_share <= 1:
            raise ConfigError(f"'lexical_share' is {lexical_share!r}; give a number from 0 to 1")
        self.lexical_share = lexical_share
        self._encoder = encoder
        self._lexical = TfidfEncoder()

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn which words there are."""
        if self.lexical_share > 0:
            self._lexical.fit(texts)
        return self

    def fit_encode(self, texts: Sequence[str]) -> Float32Array:
        """Learn which words there are, and embed the same texts."""
        return self._join(texts, self._lexical.fit_encode)

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`.

        Raises:
            ConfigError: It is not fitted, and words have a share.
        """
        return self._join(texts, self._lexical.encode)

    def semantic(self, embeddings: Float32Array) -> Float32Array:
        """The encoder's part [n, s] of embeddings [n, d], unit norm; if words are all, these."""
        if self.lexical_share in (0, 1):
            return embeddings
        meaning = embeddings[:, : embeddings.shape[1] - self._lexical.dimension]
        return meaning / np.float32(np.sqrt(1 - self.lexical_share))

    def save(self, folder: Path) -> None:
        """Write what was learned; the encoder is not part of it.

        Raises:
            ConfigError: It is not fitted, and words have a share.
        """
        if self.lexical_share > 0:
            self._lexical.save(folder / _FOLDER)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, lexical_share: float) -> Self:
        """What `save` wrote.

        Raises:
            ConfigError: There is none, or it is not whole.
        """
        features = cls(encoder, lexical_share)
        if lexical_share > 0:
            features._lexical = TfidfEncoder.load(folder / _FOLDER)
        return features

    def _join(
        self, texts: Sequence[str], lexical: Callable[[Sequence[str]], Float32Array]
    ) -> Float32Array:
        shares = ((self._encoder.encode, 1 - self.lexical_share), (lexical, self.lexical_share))
        parts = [
            np.float32(np.sqrt(share)) * encode(texts) for encode, share in shares if share > 0
        ]
        return np.concatenate(parts, axis=1)
