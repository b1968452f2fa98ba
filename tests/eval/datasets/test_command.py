from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from composer.outcomes import read_folder
from eval.datasets import IMPORTERS
from eval.datasets.splits import hashed_split

if TYPE_CHECKING:
    from tests.eval.datasets.conftest import Importing

ROWS = "prompt,m,n\n" + "".join(f"question {n},{n % 2},1\n" for n in range(20))
ROOT = Path(__file__).parents[3]


@pytest.fixture
def src(importing: Importing) -> Path:
    """Twenty questions to two models."""
    return importing.text("src/logic.csv", ROWS)


def test_what_was_made_is_summed_up(importing: Importing, src: Path) -> None:
    summary = json.loads(importing.done("routellm", src, "--output", "json").stdout)

    table = read_folder(importing.dest)
    assert summary == {
        "folder": str(importing.dest),
        "queries": {split: len(table.split(split).queries) for split in ("train", "test")},
        "models": ["m", "n"],
        "missing_cells": 0,
    }


def test_the_summary_is_also_a_table(importing: Importing, src: Path) -> None:
    stdout = importing.done("routellm", src, "--split", "0").stdout

    assert "queries in train" in stdout
    assert "0 of 40" in stdout


def test_a_source_without_splits_is_split_by_the_ids(importing: Importing, src: Path) -> None:
    result = importing.done("routellm", src)

    queries = read_folder(importing.dest).queries
    assert [query.split for query in queries] == [hashed_split(query.id, 0.3) for query in queries]
    assert "split by SHA-1 of the ids, 30% test: the source names no splits" in result.stderr


def test_ids_and_bytes_are_the_same_each_time(importing: Importing, src: Path) -> None:
    def made() -> dict[str, bytes]:
        importing.done("routellm", src, "--force")
        return {file.name: file.read_bytes() for file in importing.dest.iterdir()}

    assert made() == made()


def test_a_query_keeps_its_id_whatever_stands_beside_it(importing: Importing, src: Path) -> None:
    (first,) = [q.id for q in importing.table("routellm", src).queries if q.prompt == "question 3"]
    src.write_text("prompt,m\nquestion 3,1\n", encoding="utf-8")

    assert importing.table("routellm", src, "--force").queries[0].id == first


def test_a_note_says_what_it_was_made_of(importing: Importing, src: Path) -> None:
    importing.done("routellm", src.parent, "--split", "0.5", "--no-texts")

    note = (importing.dest / "SOURCE.md").read_text(encoding="utf-8")
    assert f"| logic.csv | {hashlib.sha256(src.read_bytes()).hexdigest()} |" in note
    assert "Options: --split 0.5 --no-texts." in note
    assert "Models: 2. Outcomes: 40, 0 cells missing. Texts: 0." in note
    assert "- Note: split by SHA-1 of the ids, 50% test" in note
    assert str(importing.folder) not in note


def test_flags_are_noted_as_they_are_written(importing: Importing) -> None:
    src = importing.json("mmlu_train.json", [{"question": "q", "scores": {"a": 0.5}}])

    importing.done("routerdc", src, "--binarise", "mmlu", "--keep-first")

    note = (importing.dest / "SOURCE.md").read_text(encoding="utf-8")
    assert "Options: --keep-first --binarise mmlu." in note


def test_an_unknown_format_is_met_with_a_suggestion(importing: Importing, src: Path) -> None:
    message = importing.refusal("routelm", src)

    assert message.startswith("no format 'routelm'; did you mean 'routellm'? choose from")


def test_an_option_of_another_format_is_refused(importing: Importing, src: Path) -> None:
    assert importing.refusal("routellm", src, "--metric", "acc") == (
        "--metric means nothing to 'routellm'; it is for 'lm-eval'"
    )


def test_a_source_that_there_is_not_is_refused(importing: Importing) -> None:
    missing = importing.folder / "nowhere"

    assert importing.refusal("routellm", missing) == (
        f"no file or folder {str(missing)!r}; name what is to be imported"
    )


def test_packed_files_are_to_be_unpacked(importing: Importing) -> None:
    src = importing.text("bench-release.tar.gz", "")

    assert importing.refusal("llmrouterbench", src) == (
        f"{src}: packed; unpack it, and name what comes out"
    )


def test_other_encodings_are_refused(importing: Importing) -> None:
    src = importing.text("x.csv", "")
    src.write_bytes("prompt,m\nnaïve,1\n".encode("latin-1"))

    message = importing.refusal("routellm", src)

    assert message.startswith(f"{src}: not UTF-8 (")
    assert message.endswith("; convert it")


def test_a_table_that_is_there_is_only_replaced_by_force(importing: Importing, src: Path) -> None:
    importing.done("routellm", src)
    before = (importing.dest / "outcomes.jsonl.gz").read_bytes()
    src.write_text("prompt,m\nq,1\n", encoding="utf-8")

    result = importing.run("routellm", src)

    assert str(result.exception) == f"{str(importing.dest)!r} is not empty; replace it with --force"
    assert (importing.dest / "outcomes.jsonl.gz").read_bytes() == before
    assert len(importing.table("routellm", src, "--force").queries) == 1


def test_a_folder_with_anything_else_is_never_replaced(importing: Importing, src: Path) -> None:
    importing.text("made/thesis.tex", "ten years")

    result = importing.run("routellm", src, "--force")

    assert "holds 'thesis.tex', which is no part of a table" in str(result.exception)
    assert (importing.dest / "thesis.tex").read_text(encoding="utf-8") == "ten years"


def test_a_file_is_no_destination(importing: Importing, src: Path) -> None:
    importing.text("made", "mine")

    assert "is a file" in str(importing.run("routellm", src, "--force").exception)


def test_an_empty_folder_is_a_destination(importing: Importing, src: Path) -> None:
    importing.dest.mkdir()

    assert len(importing.table("routellm", src).queries) == 20


def test_a_place_that_cannot_be_written_is_named(importing: Importing, src: Path) -> None:
    file = importing.text("file", "mine")

    message = str(replace(importing, folder=file).run("routellm", src).exception)

    assert message.startswith(f"{file / 'made'}: cannot be written (")
    assert message.endswith("; name another folder")


def test_a_failed_import_leaves_nothing_behind(importing: Importing, src: Path) -> None:
    src.write_text(ROWS + "question,maybe,1\n", encoding="utf-8")

    importing.refusal("routellm", src)

    assert sorted(entry.name for entry in importing.folder.iterdir()) == ["src"]


def test_the_page_on_importing_tells_of_every_format() -> None:
    page = (ROOT / "docs" / "importing-outcomes.md").read_text(encoding="utf-8")

    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]

    assert set(IMPORTERS) <= set(titles)
