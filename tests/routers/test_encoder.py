from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from routers.encoder import CachedEncoder, HashingEncoder, SentenceEncoder, find_model

if TYPE_CHECKING:
    from composer.types import Float32Array

TEXTS = ["What is 2 + 2?", "Who wrote Faust?", "", "naïve 数学"]

FILL = """
import sys
from pathlib import Path
from routers.encoder import CachedEncoder, HashingEncoder
cached = CachedEncoder(HashingEncoder(), Path(sys.argv[1]))
print("begun", flush=True)
for i in range(int(sys.argv[3])):
    cached.encode([f"{sys.argv[2]} {i}", f"shared {i}"])
"""


class CountingEncoder(HashingEncoder):
    """Keeps what it was asked to embed."""

    def __init__(self, dimension: int = 256) -> None:
        super().__init__(dimension)
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Float32Array:
        self.seen.extend(texts)
        return super().encode(texts)


class UnusableEncoder:
    """Stands for a model that must not be loaded."""

    identity = HashingEncoder().identity

    @property
    def dimension(self) -> int:
        raise AssertionError("the dimension was asked for")

    def encode(self, texts: Sequence[str]) -> Float32Array:
        raise AssertionError(f"asked to embed {texts}")


def cache_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def fill(folder: Path, name: str, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FILL, str(folder), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_hashed_embeddings_have_unit_norm(texts: list[str]):
    embeddings = HashingEncoder(16).encode(texts)

    assert embeddings.shape == (len(texts), 16)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


def test_texts_that_share_letters_are_nearer():
    query, near, far = HashingEncoder().encode(["sort the list", "sorting lists", "who is Bach"])

    assert query @ near > query @ far


def test_cached_embeddings_are_the_encoders_own(tmp_path: Path):
    cached = CachedEncoder(HashingEncoder(), tmp_path)

    for _ in range(2):
        np.testing.assert_array_equal(cached.encode(TEXTS), HashingEncoder().encode(TEXTS))


def test_a_text_is_embedded_once(tmp_path: Path):
    encoder = CountingEncoder()
    CachedEncoder(encoder, tmp_path).encode(["a", "b", "a"])
    CachedEncoder(encoder, tmp_path).encode(["c", "b"])

    assert encoder.seen == ["a", "b", "c"]


def test_the_encoder_is_not_touched_when_every_text_is_cached(tmp_path: Path):
    CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    cached = CachedEncoder(UnusableEncoder(), tmp_path)

    np.testing.assert_array_equal(cached.encode(TEXTS), HashingEncoder().encode(TEXTS))
    assert cached.dimension == 256
    assert cached.encode([]).shape == (0, 256)


def test_an_empty_cache_asks_the_encoder_for_its_dimension(tmp_path: Path):
    assert CachedEncoder(HashingEncoder(8), tmp_path).encode([]).shape == (0, 8)


def test_encoders_do_not_share_embeddings(tmp_path: Path):
    CachedEncoder(HashingEncoder(8), tmp_path).encode(TEXTS)

    assert CachedEncoder(HashingEncoder(16), tmp_path).encode(TEXTS).shape == (len(TEXTS), 16)


@pytest.mark.parametrize("cut", [1, 500, 1043, 1044, 1045, 2 * 1044, 4 * 1044 + 3, 4 * 1044 + 12])
def test_a_truncated_tail_is_ignored_and_written_anew(tmp_path: Path, cut: int):
    CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    path = cache_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    encoder = CountingEncoder()

    embeddings = CachedEncoder(encoder, tmp_path).encode(TEXTS)

    np.testing.assert_array_equal(embeddings, HashingEncoder().encode(TEXTS))
    assert encoder.seen == TEXTS[-min(4, -(-cut // 1044)) :]
    assert path.read_bytes() == whole


def test_a_damaged_record_is_embedded_again(tmp_path: Path):
    CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    path = cache_file(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[12 + 1044 + 100] ^= 1
    path.write_bytes(damaged)
    encoder = CountingEncoder()

    embeddings = CachedEncoder(encoder, tmp_path).encode(TEXTS)

    np.testing.assert_array_equal(embeddings, HashingEncoder().encode(TEXTS))
    assert encoder.seen == TEXTS[1:2]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path):
    CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    path = cache_file(tmp_path)
    path.write_bytes(b"somebody's thesis")

    with pytest.raises(ConfigError, match="not a file of embeddings; remove it"):
        CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    assert path.read_bytes() == b"somebody's thesis"


def test_a_cache_deleted_under_way_is_begun_anew(tmp_path: Path):
    cached = CachedEncoder(HashingEncoder(), tmp_path)
    cached.encode(TEXTS)
    cache_file(tmp_path).unlink()
    cached.encode(["new"])

    CachedEncoder(UnusableEncoder(), tmp_path).encode(["new"])


def test_processes_share_one_file(tmp_path: Path):
    writers = [fill(tmp_path, name, 100) for name in "abc"]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]

    texts = [f"{name} {i}" for name in ("a", "b", "c", "shared") for i in range(100)]
    embeddings = CachedEncoder(UnusableEncoder(), tmp_path).encode(texts)

    np.testing.assert_array_equal(embeddings, HashingEncoder().encode(texts))
    assert cache_file(tmp_path).stat().st_size == 12 + 400 * 1044


def test_a_killed_writer_leaves_a_readable_file(tmp_path: Path):
    with fill(tmp_path, "killed", 10**9) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        alongside = CachedEncoder(HashingEncoder(), tmp_path)
        for i in range(50):
            alongside.encode([f"survivor {i}"])
        os.kill(writer.pid, signal.SIGKILL)

    survivors = [f"survivor {i}" for i in range(50)]
    CachedEncoder(HashingEncoder(), tmp_path).encode(["after"])
    embeddings = CachedEncoder(UnusableEncoder(), tmp_path).encode([*survivors, "after"])

    np.testing.assert_array_equal(embeddings, HashingEncoder().encode([*survivors, "after"]))


def test_threads_share_one_cache(tmp_path: Path):
    encoder = CountingEncoder()
    cached = CachedEncoder(encoder, tmp_path)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(cached.encode, [TEXTS] * 20))

    assert encoder.seen == TEXTS


def test_a_missing_package_is_named_with_its_remedy():
    with pytest.raises(ConfigError) as error:
        find_model("package:no_such_model/model")

    assert str(error.value) == (
        "encoder 'package:no_such_model/model': package 'no_such_model' is not installed; "
        "pip install no-such-model"
    )


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no folder"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="there is no folder"):
        find_model("package:numpy/nowhere")


def test_a_source_is_a_folder_or_a_hub_id(tmp_path: Path):
    assert find_model(str(tmp_path)) == tmp_path
    assert find_model("sentence-transformers/all-MiniLM-L6-v2") is None


def test_a_models_identity_is_that_of_its_files(tmp_path: Path):
    for folder, weights in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text(weights)
    a, b, c = (SentenceEncoder(str(tmp_path / folder)).identity for folder in "abc")

    assert a == b
    assert a != c


@pytest.mark.models
def test_the_sentence_model_puts_like_meanings_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = SentenceEncoder()
    cached = CachedEncoder(encoder, tmp_path)

    embeddings = cached.encode(["How old is the king?", "The monarch's age", "Sort this list"])

    assert embeddings.shape == (3, encoder.dimension) == (3, 384)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert embeddings[0] @ embeddings[1] > 0.5 > embeddings[0] @ embeddings[2]
    np.testing.assert_allclose(encoder.encode(["Sort this list"])[0], embeddings[2], atol=1e-5)


@pytest.mark.models
def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        SentenceEncoder(str(tmp_path)).encode(["a"])
