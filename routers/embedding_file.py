"""Embeddings on disk that outlive a killed process: one append-only file of checked records.

    header   magic (8 bytes), dimension d (uint32)
    record   CRC-32 of the rest (uint32), key (16 bytes), embedding (d float32); little-endian

All records have one length, so a record that a killed writer left unfinished at the end is seen by
the length of the file: readers ignore it and the next writer cuts it off. A record whose checksum
does not fit is skipped. Readers and writers hold an exclusive lock of the file while they work on
it, which the kernel lets go when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

import numpy as np

from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.types import Float32Array

KEY_BYTES = 16
_MAGIC = b"embed\x00v1"
_HEADER = struct.Struct("<8sI")
_CRC = struct.Struct("<I")


class EmbeddingFile:
    """Embeddings by 16-byte key, in memory and in a file that processes share.

    Not for several threads at once: its owner holds a lock.

    Args:
        path: The file; made, with its folders, at the first use.
    """

    def __init__(self, path: Path) -> None:
        self.dimension: int | None = None
        """Numbers in an embedding; None: nothing has been read or written yet."""
        self.rows: dict[bytes, Float32Array] = {}
        """What has been read or written so far; not to be changed from outside."""
        self._path = path
        self._end = 0

    def read(self) -> Mapping[bytes, Float32Array]:
        """All embeddings, with what any process has appended since the last call.

        Raises:
            ConfigError: The file is something else.
        """
        with self._locked() as file:
            self._read_new(file)
        return self.rows

    def append(self, rows: Mapping[bytes, Float32Array]) -> None:
        """Add embeddings; a key that is already there keeps its embedding.

        Args:
            rows: Embeddings [d] float32 by key, all of one d, which is also the file's.

        Raises:
            ConfigError: The file is something else.
        """
        with self._locked() as file:
            self._read_new(file)
            new = {key: row for key, row in rows.items() if key not in self.rows}
            if not new:
                return
            if self.dimension is None:
                self.dimension = len(next(iter(new.values())))
                file.truncate(0)
                file.write(_HEADER.pack(_MAGIC, self.dimension))
                self._end = _HEADER.size
            assert all(row.shape == (self.dimension,) for row in new.values())
            file.truncate(self._end)
            block = b"".join(_pack(key, row) for key, row in new.items())
            file.write(block)
            self._end += len(block)
            self.rows |= new

    def _read_new(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        if size < self._end or size < _HEADER.size:
            # Somebody deleted the file, or a killed writer left less than a header.
            self.dimension, self._end = None, 0
        if size < _HEADER.size:
            return
        file.seek(0)
        magic, dimension = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC or self.dimension not in (None, dimension):
            raise ConfigError(f"{self._path}: not a file of embeddings; remove it")
        self.dimension = dimension
        record = np.dtype(
            [("checksum", "<u4"), ("key", f"V{KEY_BYTES}"), ("embedding", "<f4", (dimension,))]
        )
        start = max(self._end, _HEADER.size)
        file.seek(start)
        block = memoryview(file.read((size - start) // record.itemsize * record.itemsize))
        records = np.frombuffer(block, record)
        bodies = (
            block[at + _CRC.size : at + record.itemsize]
            for at in range(0, len(block), record.itemsize)
        )
        columns = (records["checksum"].tolist(), records["key"].tolist(), bodies)
        embeddings = records["embedding"].astype(np.float32, copy=False)
        for checksum, key, body, row in zip(*columns, embeddings, strict=True):
            if crc32(body) == checksum:
                self.rows[key] = row
        self._end = start + len(block)

    @contextmanager
    def _locked(self) -> Generator[BinaryIO]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Closing the file writes what is buffered, then lets the lock go.
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _pack(key: bytes, row: Float32Array) -> bytes:
    body = key + row.astype("<f4").tobytes()
    return _CRC.pack(crc32(body)) + body
