from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from composer.errors import ConfigError
from routers.encoder import HashingEncoder
from routers.features import Features
from routers.tfidf import TfidfEncoder

if TYPE_CHECKING:
    from composer.types import Float32Array

TEXTS = [
    "How do I sort a list of numbers in Python?",
    "Write a Python function that reverses a list.",
    "Who painted the Mona Lisa?",
    "下列哪一项是中国古代的四大发明之一",
]


class UnusableEncoder:
    """Stands for a model that must not be loaded."""

    dimension = 8

    def encode(self, texts: Sequence[str]) -> Float32Array:
        raise AssertionError(f"asked to embed {texts}")


def cosines(embeddings: Float32Array) -> Float32Array:
    return embeddings @ embeddings.T


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_cosine_is_the_mean_of_both_cosines_weighted_by_the_shares(share: float):
    embeddings = Features(HashingEncoder(), share).fit(TEXTS).encode(TEXTS)

    by_meaning = cosines(HashingEncoder().encode(TEXTS))
    by_words = cosines(TfidfEncoder().fit(TEXTS).encode(TEXTS))
    expected = (1 - share) * by_meaning + share * by_words
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(cosines(embeddings), expected, atol=1e-6)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_embeddings_have_unit_norm(share: float):
    embeddings = Features(HashingEncoder(), share).fit(TEXTS).encode([*TEXTS, "", "xyz"])

    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_without_a_share_of_words_embeddings_are_the_encoders_own():
    embeddings = Features(HashingEncoder(), 0).encode(TEXTS)

    np.testing.assert_array_equal(embeddings, HashingEncoder().encode(TEXTS))


def test_by_words_alone_the_encoder_is_not_touched():
    embeddings = Features(UnusableEncoder(), 1).fit(TEXTS).encode(TEXTS)

    np.testing.assert_array_equal(embeddings, TfidfEncoder().fit(TEXTS).encode(TEXTS))


def test_words_that_were_not_learned_are_not_left_out_in_silence(tmp_path: Path):
    features = Features(HashingEncoder(), 0.5)

    with pytest.raises(ConfigError, match="is not fitted"):
        features.encode(TEXTS)
    with pytest.raises(ConfigError, match="is not fitted"):
        features.save(tmp_path)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "half", True, None])
def test_a_share_that_is_no_number_from_zero_to_one_is_refused(share: float):
    with pytest.raises(ConfigError) as error:
        Features(HashingEncoder(), share)

    assert str(error.value) == f"'lexical_share' is {share!r}; give a number from 0 to 1"


@pytest.mark.parametrize("share", [0, 0.5])
def test_loaded_features_embed_as_the_saved_ones(tmp_path: Path, share: float):
    features = Features(HashingEncoder(), share).fit(TEXTS)
    features.save(tmp_path)

    loaded = Features.load(tmp_path, HashingEncoder(), share)

    assert loaded.lexical_share == share
    np.testing.assert_allclose(loaded.encode(TEXTS), features.encode(TEXTS), atol=1e-6)


def test_without_a_share_of_words_nothing_is_written(tmp_path: Path):
    Features(HashingEncoder(), 0).fit(TEXTS).save(tmp_path)

    assert not list(tmp_path.iterdir())


def test_words_that_were_not_saved_are_missed(tmp_path: Path):
    with pytest.raises(ConfigError, match="fit one and save it there"):
        Features.load(tmp_path, HashingEncoder(), 0.5)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_fitting_and_embedding_at_once_gives_what_one_after_the_other_gives(share: float):
    np.testing.assert_array_equal(
        Features(HashingEncoder(), share).fit_encode(TEXTS),
        Features(HashingEncoder(), share).fit(TEXTS).encode(TEXTS),
    )
