"""Lines that are appended survive whatever ends their writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.appending import AppendedFile, write_whole
from composer.errors import ConfigError


def test_lines_come_back_with_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines"
    with AppendedFile(path) as file:
        begins = [file.append(line) for line in (b"one", b"", b"three")]

        assert [file.line(begin) for begin in begins] == [b"one", b"", b"three"]

    with AppendedFile(path) as file:
        assert list(file.take_up()) == list(zip(begins, (b"one\n", b"\n", b"three\n"), strict=True))


def test_a_last_line_without_its_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"whole\nhalf")

    with AppendedFile(path) as file:
        taken = list(file.take_up())
        file.append(b"next")

    assert taken == [(0, b"whole\n")]
    assert path.read_bytes() == b"whole\nnext\n"


def test_what_follows_a_cut_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\n")

    with AppendedFile(path) as file:
        file.cut(4)
        file.cut(100)

    assert path.read_bytes() == b"one\n"


def test_a_full_disk_says_that_the_same_command_goes_on() -> None:
    with (
        AppendedFile(Path("/dev/full")) as file,
        pytest.raises(ConfigError, match=r"^/dev/full: cannot be written \(No space left.*goes on"),
    ):
        file.append(b"line")


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_text("old", "utf-8")

    write_whole(path, "new")

    assert path.read_text("utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_text("old", "utf-8")
    (tmp_path / "small.tmp").symlink_to("/dev/full")

    with pytest.raises(ConfigError, match=r"small: cannot be written \(No space left"):
        write_whole(path, "new")

    assert path.read_text("utf-8") == "old"
