from __future__ import annotations

from pathlib import Path

import pytest
from rich.progress import Progress

from composer.errors import ConfigError
from eval.datasets.source import Line, Source


class Number(Line):
    n: int


def test_records_come_with_the_lines_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('\n{"n": 1}\n \n{"n": 2, "more": 3}\n', encoding="utf-8")

    records = list(Source(file).objects(file, Number))

    assert records == [(f"{file}:2", Number(n=1)), (f"{file}:4", Number(n=2))]


def test_a_lists_records_are_numbered(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('\n [\n{"n": 1},\n{"n": 2}]\n', encoding="utf-8")

    records = list(Source(file).objects(file, Number))

    assert records == [(f"{file}: record 1", Number(n=1)), (f"{file}: record 2", Number(n=2))]


def test_the_line_where_a_list_breaks_counts_the_empty_ones_before_it(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('\n\n[{"n": 1},\n{"n" 2}]', encoding="utf-8")

    with pytest.raises(ConfigError, match=r"expected `:` at line 4 column \d+; is the file whole"):
        list(Source(file).objects(file, Number))


def test_a_row_has_the_line_where_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text('a,b\r\n"one\r\ntwo",1\r\nthree,2\r\n', encoding="utf-8")

    assert list(Source(file).rows(file)) == [
        (f"{file}:2", {"a": "one\r\ntwo", "b": "1"}),
        (f"{file}:4", {"a": "three", "b": "2"}),
    ]


def test_files_are_those_of_the_first_pattern_that_any_has(tmp_path: Path) -> None:
    for name in ("b/y.json", "a/x.json", "z.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.json").mkdir()
    source = Source(tmp_path)

    assert source.find("*.csv", "*.json") == [tmp_path / "a/x.json", tmp_path / "b/y.json"]
    assert source.find("*.jsonl", "*.json") == [tmp_path / "z.jsonl"]
    assert Source(tmp_path / "z.jsonl").find("*.csv") == [tmp_path / "z.jsonl"]
    assert source.files == ()


def test_a_file_that_has_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.touch()
    source = Source(file)
    file.unlink()

    with pytest.raises(ConfigError, match=r"x\.jsonl: cannot be read \("):
        list(source.objects(file, Number))


def test_progress_counts_the_bytes_of_all_files(tmp_path: Path) -> None:
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / name).write_text('{"n": 1}\n' * 50, encoding="utf-8")
    progress = Progress(disable=True)
    source = Source(tmp_path, progress)

    for file in source.find("*.jsonl"):
        assert len(list(source.objects(file, Number))) == 50

    assert (progress.tasks[0].completed, progress.tasks[0].total) == (900, 900)
    assert source.files == (tmp_path / "x.jsonl", tmp_path / "y.jsonl")
