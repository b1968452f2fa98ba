"""Files that survive whatever ends their writer, above all one of lines that are only appended.

Whoever is killed loses at most the line that it was writing: a last line without its end is cut off
when the file is taken up again, and a line that the disk has no room for is not written in part.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Self

from composer.errors import ConfigError

READ_BYTES = 1 << 14
"""Most lines are shorter; a longer one is read piece by piece."""


class AppendedFile:
    """Such a file; `with` it, alone: it is locked while it is open."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file is made with its folder where there is none, by `with`."""
        self.path = path
        self.end = 0
        """Bytes that it holds."""
        self._file = -1

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            ConfigError: It cannot be written, or another run is writing it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise unwritable(self.path, exc) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._file)
            raise ConfigError(
                f"{self.path}: another run writes there; wait for it, or name another folder"
            ) from exc
        self.end = os.fstat(self._file).st_size
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def take_up(self) -> Generator[tuple[int, bytes]]:
        """Where each whole line begins, and the line; after the last one the rest is cut off."""
        begin = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield begin, line
                begin += len(line)
        self.cut(begin)

    def cut(self, end: int) -> None:
        """Drop all that follows."""
        if end < self.end:
            os.ftruncate(self._file, end)
            self.end = end

    def append(self, line: bytes) -> int:
        """Write a line, without its end, as a whole or not at all; where it begins.

        Raises:
            ConfigError: The disk is full, or cannot be written; the file is as it was.
        """
        begin, data = self.end, line + b"\n"
        try:
            written = os.pwrite(self._file, data, begin)
            if written < len(data):
                os.ftruncate(self._file, begin)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as exc:
            raise unwritable(self.path, exc) from exc
        self.end += written
        return begin

    def line(self, begin: int) -> bytes:
        """The line that begins there, without its end."""
        data = os.pread(self._file, READ_BYTES, begin)
        while b"\n" not in data:
            data += os.pread(self._file, READ_BYTES, begin + len(data))
        return data[: data.index(b"\n")]


class TakenUp(ABC):
    """What the lines of such a file say, read when it is opened; `with` it, alone."""

    def __init__(self, path: Path) -> None:
        """Store the file; nothing is read or written before `with`."""
        self._lines = AppendedFile(path)

    def __enter__(self) -> Self:
        """Take up what is there.

        Raises:
            ConfigError: The file cannot be written, another run is writing it, or it is broken or
                of something else.
        """
        self._lines.__enter__()
        try:
            self._take_up()
        except BaseException:
            self._lines.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    @abstractmethod
    def _take_up(self) -> None:
        """Read `_lines`, which is open.

        Raises:
            ConfigError: See `__enter__`.
        """


def write_whole(path: Path, text: str) -> None:
    """Write a small file as a whole or not at all, over what was there.

    Raises:
        ConfigError: The disk is full, or cannot be written; what was there still is.
    """
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, path)
    except OSError as exc:
        raise unwritable(path, exc) from exc


def unwritable(path: Path, exc: OSError) -> ConfigError:
    """The error of a file of a run that cannot be written."""
    return ConfigError(
        f"{path}: cannot be written ({exc.strerror}); make room and run the same command again, "
        "which goes on from here, or name another folder"
    )
