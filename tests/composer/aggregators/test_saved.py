"""What was learned is read again, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from composer.aggregators.saved import NAME, SCHEMA_VERSION, load_learned, save_learned
from composer.errors import ConfigError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_learned(tmp_path / "votes", "vote-learned", {"weights": {"Zoë": 0.5}})

    assert load_learned(tmp_path / "votes", "vote-learned") == {"weights": {"Zoë": 0.5}}


def test_saving_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    save_learned(tmp_path, "vote-learned", {"a": 1})
    save_learned(tmp_path, "vote-learned", {"a": 2})

    assert load_learned(tmp_path, "vote-learned") == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_learned(folder, "vote-learned")
    message = str(caught.value)
    assert "\n" not in message
    assert f"composer fit --aggregator vote-learned --outcomes OUTCOMES --save {folder}" in message
    return message


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    assert "holds no saved aggregator" in refused(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    save_learned(tmp_path, "vote-learned", {"a": 1})
    path = tmp_path / NAME
    path.write_text(path.read_text()[:-10])

    assert "cannot be read" in refused(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")

    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("held", ["[]", "{}", '{"kind": "vote-learned"}', "3"])
def test_json_of_something_else_is_refused(held: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(held)

    assert "is no saved aggregator" in refused(tmp_path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    save_learned(tmp_path, "cascade", {})

    assert "holds a 'cascade', not a 'vote-learned'" in refused(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    save_learned(tmp_path, "vote-learned", {})
    whole = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**whole, "schema_version": SCHEMA_VERSION + 1}))

    assert f"schema version {SCHEMA_VERSION + 1}" in refused(tmp_path)
