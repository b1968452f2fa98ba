from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.profile import Case
from eval.datasets.source import Line
from eval.tasks.rows import Asked, collect, read_csv, read_rows
from tests.eval.tasks.conftest import Publishing


class Row(Line):
    question: Asked
    answer: int


SUM = {"question": "1 + 1?", "answer": 2, "more": [1]}
ROW = Row(question="1 + 1?", answer=2)


def refusal(file: Path) -> str:
    """Why a file is not read to its end."""
    with pytest.raises(ConfigError) as caught:
        list(read_rows(file, Row))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_are_read_with_their_numbers_and_empty_ones_are_passed_over(publishing: Publishing):
    file = publishing.text("test.jsonl", '\n{"question": "1 + 1?", "answer": 2, "more": 0}\n\n')

    assert list(read_rows(file, Row)) == [(f"{file}:2", ROW)]


def test_a_byte_order_mark_is_no_part_of_the_first_line(publishing: Publishing):
    file = publishing.text("test.jsonl", '\ufeff{"question": "1 + 1?", "answer": 2}\n')

    assert [row for _, row in read_rows(file, Row)] == [ROW]


def test_a_separator_of_lines_within_a_text_ends_no_line(publishing: Publishing):
    file = publishing.text("test.jsonl", '{"question": "1 +\u20281?", "answer": 2}\n')

    assert [row.question for _, row in read_rows(file, Row)] == ["1 +\u20281?"]


def test_packed_lines_are_read_like_others(publishing: Publishing):
    file = publishing.packed("test.jsonl.gz", [SUM])

    assert list(read_rows(file, Row)) == [(f"{file}:1", ROW)]


def test_rows_of_parquet_are_counted_through_the_file(publishing: Publishing):
    file = publishing.parquet("test.parquet", [SUM, SUM])

    assert list(read_rows(file, Row)) == [(f"{file}: row 1", ROW), (f"{file}: row 2", ROW)]


def test_rows_of_csv_are_named_by_the_line_where_they_begin(publishing: Publishing):
    file = publishing.csv("test.csv", [("1 +\n1?", "2"), ("2 + 2?", "4")])

    rows = list(read_csv(file, Row, ("question", "answer")))

    assert rows == [
        (f"{file}:1", Row(question="1 +\n1?", answer=2)),
        (f"{file}:3", Row(question="2 + 2?", answer=4)),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "1 + 1?"}', "'answer': field required; mend the row"),
        ('{"question": " ", "answer": 2}', "'question': string should match pattern"),
        ('{"question": "1 + 1?", "answer": "two"}', "'answer': input should be a valid integer"),
        ("[1]", "input should be a valid dictionary"),
        ('{"question": ', "not JSON"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(publishing: Publishing, line: str, said: str):
    file = publishing.text("test.jsonl", f'{{"question": "1 + 1?", "answer": 2}}\n{line}\n')

    assert refusal(file).startswith(f"{file}:2: {said}")


def test_a_wrong_row_of_parquet_is_named_with_its_field(publishing: Publishing):
    file = publishing.parquet("test.parquet", [SUM, {"question": None, "answer": 2}])

    assert refusal(file).startswith(f"{file}: row 2: 'question': input should be a valid string")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 + 1?,2\n1 + 1?\n", ":2: 1 fields where ['question', 'answer'] are wanted"),
        ('1 + 1?,2\n"1 + 1?\n', ":2: unexpected end of data; mend the quotes"),
    ],
)
def test_a_wrong_row_of_csv_is_named(publishing: Publishing, text: str, said: str):
    file = publishing.text("test.csv", text)

    with pytest.raises(ConfigError) as caught:
        list(read_csv(file, Row, ("question", "answer")))

    assert str(caught.value).startswith(f"{file}{said}")


def test_a_file_without_rows_is_refused(publishing: Publishing):
    file = publishing.text("test.jsonl", "\n")

    assert refusal(file) == f"{file}: no row; is it the right file, and whole?"


def test_a_file_of_another_kind_is_refused(publishing: Publishing):
    file = publishing.text("test.txt", "1 + 1?\n")

    assert refusal(file).startswith(f"{file}: its name ends in none of ['.jsonl', '.jsonl.gz', ")


def test_a_file_that_is_no_utf_8_is_refused(publishing: Publishing):
    file = publishing.text("test.jsonl", "")
    file.write_bytes(b'{"question": "\xff", "answer": 2}')

    assert refusal(file).startswith(f"{file}: not UTF-8")


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz", "test.parquet"])
def test_a_file_that_is_missing_is_refused(tmp_path: Path, name: str):
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: cannot be read")


@pytest.mark.parametrize("name", ["test.jsonl.gz", "test.parquet"])
def test_a_file_that_was_cut_is_refused(publishing: Publishing, name: str):
    write = publishing.packed if name.endswith("gz") else publishing.parquet
    file = write(name, [SUM] * 100)
    file.write_bytes(file.read_bytes()[:-20])

    assert refusal(file).startswith(f"{file}: cannot be read")


def test_two_cases_of_one_id_are_refused():
    case = Case("one", "1 + 1?", "2", "number")

    with pytest.raises(ConfigError, match=r"b:2: the id 'one' stands there twice; take one row"):
        collect([("a:1", case), ("b:2", case)])
