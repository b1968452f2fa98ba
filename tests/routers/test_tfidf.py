from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from routers.encoder import CachedEncoder
from routers.tfidf import TfidfEncoder

PROMPTS = [
    "How do I sort a list of numbers in Python?",
    "Write a Python function that reverses a list.",
    "Who painted the Mona Lisa?",
    "Which painter cut off his own ear?",
    "What is the derivative of x^2?",
    "Find the derivative of sin(x).",
    "下列哪一项是中国古代的四大发明之一",
    "中国古代最著名的诗人是谁",
]

IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from routers.tfidf import TfidfEncoder
if sys.argv[1] == "fit":
    encoder = TfidfEncoder(16).fit(sys.argv[2:])
else:
    encoder = TfidfEncoder.load(Path(sys.argv[2]))
    encoder.encode(["sort"])
print(encoder.identity)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.fixture(scope="module")
def fitted() -> TfidfEncoder:
    """Knows lists, painters, derivatives and old China."""
    return TfidfEncoder(16).fit(PROMPTS)


def in_another_process(*arguments: str, hash_seed: str = "0") -> tuple[str, set[str]]:
    """An encoder's identity there, and the modules it took."""
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    identity, modules = run.stdout.splitlines()
    return identity, set(modules.split())


def first_axis(dimension: int) -> list[float]:
    return [1.0] + [0.0] * (dimension - 1)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from(PROMPTS)), max_size=5))
def test_embeddings_have_unit_norm(fitted: TfidfEncoder, texts: list[str]):
    embeddings = fitted.encode(texts)

    assert embeddings.shape == (len(texts), 16)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from(PROMPTS)), min_size=1, max_size=5))
def test_an_embedding_does_not_depend_on_its_batch(fitted: TfidfEncoder, texts: list[str]):
    together = fitted.encode(texts)

    alone = np.concatenate([fitted.encode([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text(), max_size=8))
def test_any_texts_can_be_fitted_on(texts: list[str]):
    embeddings = TfidfEncoder(4).fit(texts).encode([*texts, "something else"])

    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [("a Python list", 0, 2), ("a painter and his ear", 3, 0), ("the derivative", 4, 2)],
)
def test_texts_that_share_words_are_nearer(fitted: TfidfEncoder, query: str, near: int, far: int):
    embedding, prompts = fitted.encode([query])[0], fitted.encode(PROMPTS)

    assert embedding @ prompts[near] > embedding @ prompts[far]


def test_chinese_texts_without_spaces_are_told_apart(fitted: TfidfEncoder):
    query = fitted.encode(["古代的发明有哪些"])[0]

    assert np.argmax(fitted.encode(PROMPTS) @ query) == 6


def test_case_does_not_matter(fitted: TfidfEncoder):
    np.testing.assert_array_equal(fitted.encode(["STRASSE X"]), fitted.encode(["Straße x"]))


def test_with_an_axis_for_every_text_cosines_are_those_of_scikit_learn():
    vectorizer: Any = import_module("sklearn.feature_extraction.text").TfidfVectorizer
    kind = vectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True)
    english = PROMPTS[:6]
    weights = kind.fit_transform(english).toarray()

    embeddings = TfidfEncoder(16).fit(english).encode(english)

    np.testing.assert_allclose(embeddings @ embeddings.T, weights @ weights.T, atol=1e-5)


@pytest.mark.parametrize("text", ["", " \n\t", "ωψ", "🦆"])
def test_a_text_of_which_nothing_is_known_is_embedded_as_the_first_axis(text: str):
    encoder = TfidfEncoder(4).fit(["sort a list", "sort numbers"])

    assert encoder.encode([text]).tolist() == [first_axis(4)]


def test_the_first_axis_is_what_the_texts_have_in_common():
    embeddings = TfidfEncoder(4).fit(PROMPTS[:2]).encode(PROMPTS[:2])

    assert (embeddings[:, 0] > 0.5).all()


def test_what_few_texts_cannot_fill_is_zero():
    embeddings = TfidfEncoder(8).fit(PROMPTS[:2]).encode(PROMPTS[:2])

    assert embeddings[:, :2].all()
    assert not embeddings[:, 2:].any()


def test_texts_that_are_all_the_same_have_one_axis():
    encoder = TfidfEncoder(8).fit(["sort a list"] * 5)

    np.testing.assert_allclose(
        encoder.encode(["sort a list", "a"]), [first_axis(8), first_axis(8)], atol=1e-6
    )


def test_where_no_text_has_a_word_all_are_embedded_alike(tmp_path: Path):
    TfidfEncoder(4).fit(["?!?!", "", "+-+-"]).save(tmp_path)

    encoder = TfidfEncoder.load(tmp_path)

    assert encoder.encode(["?!", "a word"]).tolist() == [first_axis(4), first_axis(4)]


def test_fitting_again_forgets_the_first_time(fitted: TfidfEncoder):
    encoder = TfidfEncoder(16).fit(["something else"]).fit(PROMPTS)

    assert encoder.identity == fitted.identity


def test_identities_tell_texts_and_dimensions_apart(fitted: TfidfEncoder):
    others = [TfidfEncoder(16).fit(PROMPTS[1:]), TfidfEncoder(12).fit(PROMPTS)]

    assert len({fitted.identity, *(other.identity for other in others)}) == 3


def test_encoders_fitted_on_different_texts_share_no_cached_embeddings(
    fitted: TfidfEncoder, tmp_path: Path
):
    CachedEncoder(fitted, tmp_path).encode(PROMPTS)
    other = TfidfEncoder(16).fit(PROMPTS[1:])

    embeddings = CachedEncoder(other, tmp_path).encode(PROMPTS)

    np.testing.assert_array_equal(embeddings, other.encode(PROMPTS))


def test_another_process_learns_the_same_and_needs_no_torch(fitted: TfidfEncoder):
    identity, modules = in_another_process("fit", *PROMPTS, hash_seed="1")

    assert identity == fitted.identity
    assert "sklearn" in modules
    assert not modules & {"torch", "transformers", "sentence_transformers"}


def test_a_loaded_encoder_embeds_alike(fitted: TfidfEncoder, tmp_path: Path):
    fitted.save(tmp_path / "encoder")

    loaded = TfidfEncoder.load(tmp_path / "encoder")

    assert loaded.dimension == 16
    assert loaded.identity == fitted.identity
    np.testing.assert_allclose(loaded.encode(PROMPTS), fitted.encode(PROMPTS), atol=1e-6)


def test_a_loaded_encoder_needs_no_torch(fitted: TfidfEncoder, tmp_path: Path):
    fitted.save(tmp_path)

    identity, modules = in_another_process("load", str(tmp_path))

    assert identity == fitted.identity
    assert not modules & {"torch", "transformers", "sentence_transformers"}


def test_the_vocabulary_is_bounded(tmp_path: Path):
    random = Random(0)
    texts = ["".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(40_000))]

    TfidfEncoder(2).fit(texts).save(tmp_path)

    meta = json.loads((tmp_path / "router.json").read_text("utf-8"))["meta"]
    assert len(meta["terms"]) == 30_000


def test_an_encoder_that_is_not_fitted_says_what_to_do(tmp_path: Path):
    encoder = TfidfEncoder()
    remedy = "^encoder 'tfidf' is not fitted; call fit with prompts, or load one$"

    with pytest.raises(ConfigError, match=remedy):
        encoder.encode(PROMPTS)
    with pytest.raises(ConfigError, match=remedy):
        _ = encoder.identity
    with pytest.raises(ConfigError, match=remedy):
        encoder.save(tmp_path)


def test_a_dimension_below_one_is_refused():
    with pytest.raises(ConfigError, match="cannot have dimension 0; give 1 or more"):
        TfidfEncoder(0)


@pytest.mark.parametrize("name", ["router.json", "arrays.npz"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused_in_one_line(
    fitted: TfidfEncoder, tmp_path: Path, name: str, kept: float
):
    fitted.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(ConfigError, match=r"fit and save it again$") as error:
        TfidfEncoder.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_encoder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="fit one and save it there"):
        TfidfEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("schema_version", 99, "update the program or fit again"),
        ("kind", "neighbours", "name another folder"),
    ],
)
def test_a_newer_or_foreign_artefact_is_refused(
    fitted: TfidfEncoder, tmp_path: Path, field: str, value: object, remedy: str
):
    fitted.save(tmp_path)
    header = json.loads((tmp_path / "router.json").read_text("utf-8"))
    (tmp_path / "router.json").write_text(json.dumps(header | {field: value}), "utf-8")

    with pytest.raises(ConfigError, match=remedy):
        TfidfEncoder.load(tmp_path)


@pytest.mark.parametrize("texts", [PROMPTS, PROMPTS[:1], ["?!?!", ""], []])
def test_fitting_and_embedding_at_once_gives_what_one_after_the_other_gives(texts: list[str]):
    at_once, after = TfidfEncoder(16), TfidfEncoder(16).fit(texts)

    embeddings = at_once.fit_encode(texts)

    np.testing.assert_array_equal(embeddings, after.encode(texts))
    assert at_once.identity == after.identity
