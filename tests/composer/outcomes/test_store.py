from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.outcomes import (
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
    load_table,
    read_folder,
    read_table,
    save_table,
)
from composer.outcomes.parquet import pack, unpack
from composer.types import Annotation

TEXTS = st.text(max_size=5)
MAYBE_TEXTS = st.none() | TEXTS
AMOUNTS = st.floats(0, width=32, allow_infinity=False) | st.just(math.nan)
PRICES = st.none() | st.floats(0)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda values: st.lists(values, max_size=2) | st.dictionaries(TEXTS, values, max_size=2),
    max_leaves=4,
)
ANNOTATIONS = st.builds(Annotation, st.dictionaries(TEXTS, VALUES, max_size=2))
QUERIES = st.builds(
    RecordedQuery,
    TEXTS,
    TEXTS,
    TEXTS,
    MAYBE_TEXTS,
    MAYBE_TEXTS,
    st.frozensets(TEXTS, max_size=2),
    st.none() | ANNOTATIONS,
    st.sampled_from([None, "text", "number"]),
)
EXPERTS = st.builds(RecordedExpert, TEXTS, PRICES, PRICES, PRICES, st.booleans(), TEXTS)

DYING_SAVE = """
import os, signal, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
from composer.outcomes import OutcomeTable, RecordedExpert, RecordedQuery, save_table

replace, left = os.replace, int(sys.argv[2])

def replace_or_die(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = replace_or_die
query, expert = RecordedQuery("new", "?", "train"), RecordedExpert("new")
save_table(
    OutcomeTable("new", (query,), (expert,), np.ones((1, 1), np.float32)), Path(sys.argv[1])
)
"""
"""Saves another table and is killed at a rename: of the first file, the second, table.json."""


@st.composite
def tables(draw: st.DrawFn) -> OutcomeTable:
    queries = draw(st.lists(QUERIES, max_size=4))
    experts = draw(st.lists(EXPERTS, min_size=1, max_size=3))
    shape = len(queries), len(experts)

    def cells(values: st.SearchStrategy[Any], dtype: Any) -> Any:
        drawn = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
        flat = np.empty(len(drawn), dtype)
        flat[:] = drawn
        return flat.reshape(shape)

    def maybe(make: Callable[[], Any]) -> Any:
        return make() if draw(st.booleans()) else None

    def answers() -> Answers:
        values = sorted(draw(st.sets(TEXTS, max_size=3)))
        return Answers(tuple(values), cells(st.integers(-2, len(values) - 1), np.int32))

    return OutcomeTable(
        draw(TEXTS),
        tuple(queries),
        tuple(experts),
        cells(AMOUNTS, np.float32),
        cost_usd=maybe(lambda: cells(AMOUNTS, np.float32)),
        latency_s=maybe(lambda: cells(AMOUNTS, np.float32)),
        prompt_tokens=maybe(lambda: cells(AMOUNTS, np.float32)),
        completion_tokens=maybe(lambda: cells(AMOUNTS, np.float32)),
        answers=maybe(answers),
        texts=maybe(lambda: cells(MAYBE_TEXTS, np.object_)),
    )


def assert_same(loaded: OutcomeTable, saved: OutcomeTable) -> None:
    assert (loaded.name, loaded.queries, loaded.experts) == (
        saved.name,
        saved.queries,
        saved.experts,
    )
    assert loaded.cells().keys() == saved.cells().keys()
    for name, cells in saved.cells().items():
        np.testing.assert_array_equal(loaded.cells()[name], cells)
        assert loaded.cells()[name].dtype == cells.dtype
    values = [None if table.answers is None else table.answers.values for table in (loaded, saved)]
    assert values[0] == values[1]


@pytest.fixture
def table(folder: Path) -> OutcomeTable:
    """All that the folder of lines holds."""
    return read_folder(folder, partial=True, texts=True)


@pytest.fixture
def saved(table: OutcomeTable, tmp_path: Path) -> Path:
    """Where the table is saved."""
    save_table(table, tmp_path / "saved")
    return tmp_path / "saved"


def file_of(folder: Path, part: str) -> Path:
    (file,) = folder.glob(f"{part}*")
    return file


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_table(folder, texts=True)
    message = str(raised.value)
    assert "\n" not in message
    return message


@settings(deadline=None, max_examples=30)
@given(table=tables())
def test_a_table_comes_back_exactly_as_it_was(table: OutcomeTable):
    with TemporaryDirectory() as folder:
        save_table(table, Path(folder))

        assert_same(load_table(Path(folder), texts=True), table)


def test_scores_of_another_precision_keep_it(table: OutcomeTable, tmp_path: Path):
    precise: Any = np.full(table.score.shape, 0.1, np.float64)

    save_table(replace(table, score=precise), tmp_path / "saved")

    assert load_table(tmp_path / "saved").score.dtype == np.float64


def test_what_is_loaded_may_be_written_to(saved: Path):
    table = load_table(saved, texts=True)

    assert all(cells.flags.writeable for cells in table.cells().values())


def test_a_table_is_kept_as_json_and_parquet(saved: Path):
    (saved / "table.json").rename(saved / "aside.json")

    kept = json.loads((saved / "aside.json").read_text("utf-8"))
    starts = {file.read_bytes()[:4] for file in saved.glob("*.parquet")}

    assert starts == {b"PAR1"}
    assert kept["schema_version"] == 3
    assert kept["splits"] == {"train": 1, "test": 2}
    assert kept["cells"] == ["score", "cost_usd", "completion_tokens", "answers"]
    assert [expert["name"] for expert in kept["experts"]] == ["ann", "bea", "eve"]


def test_pyarrow_is_not_imported_before_it_is_needed():
    code = "import sys, composer.outcomes; print('pyarrow' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert run.stdout == "False\n"


def test_texts_are_not_even_read_unless_they_are_asked_for(saved: Path):
    file_of(saved, "texts").unlink()

    assert load_table(saved).texts is None


def test_saving_again_replaces_all_that_was_saved(saved: Path, table: OutcomeTable):
    fewer = replace(table.rows([0]), texts=None, answers=None)

    save_table(fewer, saved)

    assert_same(load_table(saved, texts=True), fewer)
    assert len(list(saved.iterdir())) == 3


def test_saving_leaves_files_of_others_alone(saved: Path, table: OutcomeTable):
    for name in ("notes.txt", "cells-mine.parquet", ".hidden"):
        (saved / name).touch()

    save_table(table.rows([0]), saved)

    assert {"notes.txt", "cells-mine.parquet", ".hidden"} < {f.name for f in saved.iterdir()}


def test_a_table_is_not_saved_among_the_lines_of_another(folder: Path, table: OutcomeTable):
    with pytest.raises(ConfigError, match=r"holds queries\.jsonl\.gz, another table; name"):
        save_table(table, folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, table: OutcomeTable):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"file/saved: cannot be written \(.*\); name another"):
        save_table(table, tmp_path / "file" / "saved")


@pytest.mark.parametrize("n_synced", range(7))
def test_a_full_disk_leaves_the_table_that_was_there(
    saved: Path, table: OutcomeTable, monkeypatch: pytest.MonkeyPatch, n_synced: int
):
    sync, done = os.fsync, list[int]()

    def sync_or_fail(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) > n_synced:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", sync_or_fail)
        with pytest.raises(ConfigError, match="No space left on device"):
            save_table(table.rows([0]), saved)

    is_replaced = n_synced == 6
    assert_same(load_table(saved, texts=True), table.rows([0]) if is_replaced else table)
    assert not list(saved.glob(".*"))


def test_a_save_that_is_killed_leaves_the_table_that_was_there_or_none(
    saved: Path, table: OutcomeTable, tmp_path: Path
):
    save_table(table, tmp_path / "again")
    kills = [(saved, 1), (tmp_path / "again", 2), (tmp_path / "first", 2)]

    savers = [
        subprocess.Popen([sys.executable, "-c", DYING_SAVE, str(folder), str(n_renamed)])
        for folder, n_renamed in kills
    ]
    ends = [saver.wait() for saver in savers]

    assert ends == [-signal.SIGKILL] * 3
    for folder in (saved, tmp_path / "again"):
        assert_same(load_table(folder, texts=True), table)
    assert refusal(tmp_path / "first").startswith("no saved table in ")


def test_what_a_killed_save_left_is_taken_away_by_the_next(saved: Path, table: OutcomeTable):
    there = {file.name for file in saved.iterdir()}
    for name in ("cells-0123456789abcdef.parquet", ".table.json.part"):
        (saved / name).write_bytes(b"half")

    save_table(table, saved)

    assert {file.name for file in saved.iterdir()} == there


def test_nobody_reads_while_a_table_is_replaced(
    saved: Path, table: OutcomeTable, monkeypatch: pytest.MonkeyPatch
):
    rename, refused = os.replace, list[str]()

    def rename_if_locked(source: Path, target: Path) -> None:
        reader = os.open(saved, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(reader)
        refused.append(target.name)
        rename(source, target)

    monkeypatch.setattr(os, "replace", rename_if_locked)
    save_table(table.rows([0]), saved)

    assert refused[-1] == "table.json"


@pytest.mark.parametrize("part", ["queries", "cells", "answers", "texts"])
def test_a_file_that_is_cut_short_is_named(saved: Path, part: str):
    file = file_of(saved, part)
    file.write_bytes(file.read_bytes()[:-1])

    message = refusal(saved)

    assert message == f"{file}: is not what was saved (its SHA-256 differs); save the table again"


@pytest.mark.parametrize("part", ["queries", "cells", "answers", "texts"])
def test_a_missing_file_is_named(saved: Path, part: str):
    file = file_of(saved, part)
    file.unlink()

    message = refusal(saved)

    assert message.startswith(f"{saved}: cannot be read (")
    assert file.name in message
    assert message.endswith("; save the table again")


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_saved_table_is_named(tmp_path: Path, folder: str):
    message = refusal(tmp_path / folder)

    assert message == f"no saved table in '{tmp_path / folder}': no table.json; save one there"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "invalid JSON: "),
        ("[]", "input should be an object; save the table again"),
        ('{"rows": []}', "'schema_version': field required; save the table again"),
        ('{"schema_version": 1}', "'name': field required; save the table again"),
        ('{"schema_version": 4}', "has schema version 4, and this program reads 3; update it"),
    ],
)
def test_a_table_json_that_is_something_else_is_named(saved: Path, text: str, said: str):
    (saved / "table.json").write_text(text, "utf-8")

    assert refusal(saved).startswith(f"{saved / 'table.json'}: {said}")


def test_a_table_json_that_is_cut_short_is_named(saved: Path):
    whole = (saved / "table.json").read_bytes()
    (saved / "table.json").write_bytes(whole[:-2])

    assert refusal(saved).startswith(f"{saved / 'table.json'}: invalid JSON: ")


def change(saved: Path, **keys: Any) -> None:
    file = saved / "table.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | keys), "utf-8")


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"experts": [{"name": "ann"}]}, "cells"),
        ({"splits": {"train": 1}}, "queries"),
        ({"cells": ["score"]}, "cells"),
    ],
)
def test_a_table_json_of_another_table_is_refused(saved: Path, keys: dict[str, Any], part: str):
    change(saved, **keys)

    said = "does not go with table.json; save the table again"
    assert refusal(saved) == f"{file_of(saved, part)}: {said}"


def test_a_table_of_the_first_schema_version_is_read_without_what_came_later(
    saved: Path, table: OutcomeTable
):
    columns = unpack(file_of(saved, "queries").read_bytes())
    flags = columns.pop("flags")
    del columns["annotation"], columns["answer_type"]
    data = pack(texts=columns, lists={"flags": flags})
    digest = sha256(data).hexdigest()
    (saved / f"queries-{digest[:16]}.parquet").write_bytes(data)
    manifest = json.loads((saved / "table.json").read_text("utf-8"))
    experts = [{k: v for k, v in e.items() if k != "description"} for e in manifest["experts"]]
    change(
        saved, schema_version=1, experts=experts, sha256=manifest["sha256"] | {"queries": digest}
    )

    assert_same(load_table(saved, texts=True), table)


def test_a_table_json_without_a_file_is_refused(saved: Path):
    change(saved, sha256={})

    said = "names no file of queries; save the table again"
    assert refusal(saved) == f"{saved / 'table.json'}: {said}"


def test_a_file_that_is_no_parquet_is_named(saved: Path):
    digests = json.loads((saved / "table.json").read_text("utf-8"))["sha256"]
    digest = sha256(b"no parquet").hexdigest()
    file = saved / f"cells-{digest[:16]}.parquet"
    file.write_bytes(b"no parquet")
    change(saved, sha256=digests | {"cells": digest})

    message = refusal(saved)

    assert message.startswith(f"{file}: ")
    assert message.endswith("; save the table again")


def test_either_form_is_read(folder: Path, saved: Path, table: OutcomeTable):
    assert_same(read_table(folder, partial=True, texts=True), table)
    assert_same(read_table(saved, partial=True, texts=True), table)


def test_partial_experts_are_left_out_of_either_form_unless_asked_for(folder: Path, saved: Path):
    in_lines, as_saved = read_table(folder), read_table(saved)

    assert in_lines.names == as_saved.names == ("ann", "bea")
    np.testing.assert_array_equal(in_lines.score, as_saved.score)


def test_a_saved_table_of_partial_experts_alone_is_read_on_request_only(
    saved: Path, table: OutcomeTable
):
    save_table(table.with_experts(["eve"]), saved)

    assert read_table(saved, partial=True).names == ("eve",)
    with pytest.raises(ConfigError, match="every expert is partial; ask for those as well"):
        read_table(saved)
