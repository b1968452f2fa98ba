"""What a batch was told survives whatever ends it."""

from __future__ import annotations

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.bulk.journal import Journal
from composer.errors import ConfigError
from composer.types import Completion, Failure, Outcome, Sample

ABOUT = {"the batch file": "abc"}


def says(number: int, text: str = "yes") -> Outcome:
    return Completion(f"q/ask/{number}", "ann", (Sample(text, "stop", 1),), 3)


@contextmanager
def file_size_limit(n_bytes: int) -> Generator[None]:
    """A disk that is full when a file has so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=30)), max_size=20))
def test_each_rows_outcomes_come_back_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, str]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    with Journal(path, 4, ABOUT) as journal:
        for number, (row, text) in enumerate(said):
            journal.add(row, says(number, text))

    with Journal(path, 4, ABOUT) as journal:
        for row in range(4):
            expected = [says(n, text) for n, (of, text) in enumerate(said) if of == row]
            assert journal.outcomes(row) == expected


@given(st.integers(0, 2000))
def test_a_journal_that_was_cut_anywhere_goes_on_with_the_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    with Journal(path, 2, ABOUT) as journal:
        for number in range(5):
            journal.add(number % 2, says(number))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    n_whole = max(0, whole[:cut].count(b"\n") - 1)

    with Journal(path, 2, ABOUT) as journal:
        kept = [*journal.outcomes(0), *journal.outcomes(1)]
        journal.add(0, says(9))

    assert sorted(o.request_id for o in kept) == [f"q/ask/{n}" for n in range(n_whole)]
    with Journal(path, 2, ABOUT) as journal:
        assert journal.outcomes(0)[-1] == says(9)


def test_a_text_longer_than_what_is_read_at_once_comes_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", 1, ABOUT) as journal:
        journal.add(0, says(0, "word " * 50_000))

        assert journal.outcomes(0) == [says(0, "word " * 50_000)]


def test_failures_are_kept_as_they_are(tmp_path: Path) -> None:
    failure = Failure("q/ask", "ann", "timeout", "too late", retryable=True, attempts=2)
    with Journal(tmp_path / "journal.jsonl", 1, ABOUT) as journal:
        journal.add(0, failure)

        assert journal.outcomes(0) == [failure]


def test_rows_that_are_done_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, 3, ABOUT) as journal:
        journal.finish(2, 70, failed=False)
        journal.finish(0, 90, failed=True)

    with Journal(path, 3, ABOUT) as journal:
        assert [journal.is_done(row) for row in range(3)] == [True, False, True]
        assert (journal.n_done, journal.n_failed, journal.results_end) == (2, 1, 90)


def test_two_runs_do_not_write_to_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    with (
        Journal(path, 1, ABOUT),
        pytest.raises(ConfigError, match="another run writes there"),
        Journal(path, 1, ABOUT),
    ):
        pass


def test_what_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, 1, ABOUT):
        pass

    other = {"the batch file": "xyz"}
    with (
        pytest.raises(ConfigError, match=r"the batch file is another .* \(abc then, xyz now\)"),
        Journal(path, 1, other),
    ):
        pass


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"schema_version": 2, "batch": {}}\n', "utf-8")

    with (
        pytest.raises(ConfigError, match="has schema version 2, and this program reads 1"),
        Journal(path, 1, ABOUT),
    ):
        pass


def test_a_line_that_is_no_journals_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, 1, ABOUT):
        pass
    path.write_bytes(path.read_bytes() + b"hello\n")

    with (
        pytest.raises(ConfigError, match=r"journal.jsonl:2: is no line of a journal"),
        Journal(path, 1, ABOUT),
    ):
        pass


def test_a_full_disk_is_an_error_that_leaves_the_journal_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, 1, ABOUT) as journal:
        journal.add(0, says(0))
        with (
            file_size_limit(path.stat().st_size + 20),
            pytest.raises(ConfigError, match="make room and run the same command again") as caught,
        ):
            journal.add(0, says(1))
        whole = path.read_bytes()
        journal.add(0, says(2))

    assert "\n" not in str(caught.value)
    assert whole.endswith(b"\n")
    with Journal(path, 1, ABOUT) as journal:
        assert journal.outcomes(0) == [says(0), says(2)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")

    with (
        pytest.raises(ConfigError, match=r"journal.jsonl: cannot be written"),
        Journal(tmp_path / "file" / "journal.jsonl", 1, ABOUT),
    ):
        pass
