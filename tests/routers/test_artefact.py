from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from routers.artefact import discard_artefact, load_artefact, save_artefact, saved_kind

META = {"experts": ["ada", "bo"], "prompt": "naïve 数学\n", "k": 5, "share": 0.1, "given": None}
ARRAYS = {"rows": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 4))}
IN_A_FOLDER = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a saved part of the kind `made`."""
    save_artefact(tmp_path, "made", META, ARRAYS)
    return tmp_path


def refusal(folder: Path, kind: str = "made") -> str:
    """Why it cannot be loaded; one line."""
    with pytest.raises(ConfigError) as error:
        load_artefact(folder, kind)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_was_saved_is_loaded(saved: Path):
    meta, arrays = load_artefact(saved, "made")

    assert meta == META
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@IN_A_FOLDER
@given(meta=st.dictionaries(st.text(), JSON_VALUES, max_size=3))
def test_any_json_values_are_loaded_as_they_were(tmp_path: Path, meta: dict[str, Any]):
    save_artefact(tmp_path, "made", meta, {})

    assert load_artefact(tmp_path, "made")[0] == meta


def test_the_folder_is_made_when_needed(tmp_path: Path):
    save_artefact(tmp_path / "a" / "b", "made", META, ARRAYS)

    assert load_artefact(tmp_path / "a" / "b", "made")[0] == META


def test_what_the_folder_held_is_replaced(saved: Path):
    save_artefact(saved, "other", {"now": 1}, {})

    assert load_artefact(saved, "other") == ({"now": 1}, {})
    assert saved_kind(saved) == "other"


def test_only_json_and_plain_arrays_are_written(saved: Path):
    assert sorted(path.name for path in saved.iterdir()) == ["arrays.npz", "router.json"]
    with np.load(saved / "arrays.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays.files} == {
            "rows": (2, 3),
            "empty": (0, 4),
        }


def test_arrays_of_objects_are_never_written(saved: Path):
    with pytest.raises(AssertionError, match="pickled"):
        save_artefact(saved, "made", META, {"texts": np.array(["a", None], np.object_)})

    assert load_artefact(saved, "made")[0] == META


def test_an_empty_folder_holds_none(tmp_path: Path):
    assert refusal(tmp_path) == (
        f"no saved router in {str(tmp_path)!r} (No such file or directory); "
        "fit one and save it there"
    )


def test_a_file_is_no_folder_of_a_saved_router(tmp_path: Path):
    (tmp_path / "notes").write_text("")

    assert refusal(tmp_path / "notes").endswith("(Not a directory); fit one and save it there")


def test_another_kind_is_refused_by_name(saved: Path):
    assert refusal(saved, "other") == (
        f"{saved}: holds a saved 'made', not 'other'; name another folder"
    )


def test_a_newer_schema_is_refused(saved: Path):
    header = json.loads((saved / "router.json").read_text("utf-8"))
    (saved / "router.json").write_text(json.dumps(header | {"schema_version": 2}), "utf-8")

    assert refusal(saved) == (
        f"{saved}: has schema version 2, this program reads 1; update the program or fit again"
    )
    with pytest.raises(ConfigError, match="has schema version 2"):
        saved_kind(saved)


@pytest.mark.parametrize(
    "foreign", [b"", b"[]", b'"made"', b"3", b"{}", b'{"kind": "made"}', b"\xff\xfe", b"not json"]
)
def test_a_foreign_json_file_is_refused(saved: Path, foreign: bytes):
    (saved / "router.json").write_bytes(foreign)

    assert refusal(saved) == (f"{saved / 'router.json'}: not a saved router; fit and save it again")


@pytest.mark.parametrize("missing", ["arrays_sha256", "meta"])
def test_a_header_without_all_its_parts_is_refused(saved: Path, missing: str):
    header = json.loads((saved / "router.json").read_text("utf-8"))
    del header[missing]
    (saved / "router.json").write_text(json.dumps(header), "utf-8")

    assert refusal(saved) == f"{saved}: cannot be read ({missing!r}); fit and save it again"


@pytest.mark.parametrize("name", ["router.json", "arrays.npz"])
@IN_A_FOLDER
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(saved: Path, name: str, kept: float):
    save_artefact(saved, "made", META, ARRAYS)
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(kept * len(whole))])

    assert refusal(saved).endswith("; fit and save it again")


def test_missing_arrays_are_refused(saved: Path):
    (saved / "arrays.npz").unlink()

    assert refusal(saved).endswith("; fit and save it again")


def test_pickled_arrays_are_never_read(saved: Path):
    np.savez(saved / "arrays.npz", rows=np.array([{}, None], np.object_))
    digest = sha256((saved / "arrays.npz").read_bytes()).hexdigest()
    header = json.loads((saved / "router.json").read_text("utf-8"))
    (saved / "router.json").write_text(json.dumps(header | {"arrays_sha256": digest}), "utf-8")

    assert "allow_pickle=False" in refusal(saved)


def test_arrays_of_another_save_are_refused(saved: Path, tmp_path: Path):
    save_artefact(tmp_path / "other", "made", META, {"rows": np.zeros(3)})
    (tmp_path / "other" / "arrays.npz").replace(saved / "arrays.npz")

    assert refusal(saved) == f"{saved / 'arrays.npz'}: is not whole; fit and save it again"


def test_what_a_killed_save_leaves_beside_a_whole_one_does_not_matter(saved: Path):
    (saved / ".arrays.npz").write_bytes(b"PK\x03\x04 half")
    (saved / ".router.json").write_text('{"kind": "ma')

    assert load_artefact(saved, "made")[0] == META
    save_artefact(saved, "made", {}, {})
    assert not list(saved.glob(".*"))


@pytest.mark.parametrize("blocked", [".arrays.npz", ".router.json"])
def test_a_save_that_ends_half_way_leaves_nothing_to_load(saved: Path, blocked: str):
    (saved / blocked).mkdir()
    with pytest.raises(IsADirectoryError):
        save_artefact(saved, "made", {}, {})

    assert refusal(saved).endswith("; fit one and save it there")


def test_a_discarded_one_is_gone(saved: Path):
    discard_artefact(saved)
    discard_artefact(saved)

    assert refusal(saved).endswith("; fit one and save it there")


def test_the_kind_is_read_without_the_arrays(saved: Path):
    (saved / "arrays.npz").unlink()

    assert saved_kind(saved) == "made"
