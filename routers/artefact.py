"""A fitted router on disk: one JSON file that says what it is, and its arrays; never a pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

SCHEMA_VERSION = 1
_META, _ARRAYS = "router.json", "arrays.npz"


def discard_artefact(folder: Path) -> None:
    """Make the folder hold none, so that what is written beside one is never read with an old one.

    Args:
        folder: Need not exist.
    """
    (folder / _META).unlink(missing_ok=True)


def save_artefact(folder: Path, kind: str, meta: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a fitted part; the JSON file comes last, so a folder with one is whole.

    Args:
        folder: Made if it does not exist; what it held of this kind is replaced.
        kind: What it is; `load_artefact` refuses any other.
        meta: JSON values.
        arrays: Numbers, by name.
    """
    assert not any(array.dtype.hasobject for array in arrays.values()), "would be pickled"
    folder.mkdir(parents=True, exist_ok=True)
    discard_artefact(folder)
    temporary = folder / f".{_ARRAYS}"
    with temporary.open("wb") as file:
        # The stub takes the arrays' names for savez's own options.
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(temporary, folder / _ARRAYS)
    header = {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "arrays_sha256": sha256((folder / _ARRAYS).read_bytes()).hexdigest(),
        "meta": dict(meta),
    }
    temporary = folder / f".{_META}"
    temporary.write_text(json.dumps(header, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(temporary, folder / _META)


def load_artefact(folder: Path, kind: str) -> tuple[dict[str, Any], Arrays]:
    """What `save_artefact` wrote there: meta and arrays.

    Raises:
        ConfigError: There is nothing of this kind, it is newer than this program, or it is not
            whole.
    """
    header = _read_header(folder)
    if header["kind"] != kind:
        raise ConfigError(
            f"{folder}: holds a saved {header['kind']!r}, not {kind!r}; name another folder"
        )
    try:
        data = (folder / _ARRAYS).read_bytes()
        if sha256(data).hexdigest() != header["arrays_sha256"]:
            raise ConfigError(f"{folder / _ARRAYS}: is not whole; fit and save it again")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return header["meta"], {name: arrays[name] for name in arrays.files}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ConfigError(f"{folder}: cannot be read ({exc}); fit and save it again") from exc


def saved_kind(folder: Path) -> str:
    """What kind of part `save_artefact` wrote there.

    Raises:
        ConfigError: There is none, it is newer than this program, or it is not whole.
    """
    return _read_header(folder)["kind"]


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _META).read_text(encoding="utf-8"))
        _, version = header["kind"], header["schema_version"]
    except OSError as exc:
        raise ConfigError(
            f"no saved router in {str(folder)!r} ({exc.strerror}); fit one and save it there"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{folder / _META}: not a saved router; fit and save it again") from exc
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{folder}: has schema version {version!r}, this program reads {SCHEMA_VERSION}; "
            "update the program or fit again"
        )
    return header
