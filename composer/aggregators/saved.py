"""What an aggregator has learned, on disk: one JSON file in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from composer.errors import ConfigError

NAME = "aggregator.json"
SCHEMA_VERSION = 1


def save_learned(folder: Path, kind: str, learned: Mapping[str, Any]) -> None:
    """Write it; what the folder held of this kind is replaced.

    Args:
        folder: Made if it does not exist.
        kind: The aggregator's name; `load_learned` refuses any other.
        learned: JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"kind": kind, "schema_version": SCHEMA_VERSION, "learned": dict(learned)}
    temporary = folder / f".{NAME}"
    temporary.write_text(json.dumps(whole, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(temporary, folder / NAME)


def load_learned(folder: Path, kind: str, *, remedy: str | None = None) -> Mapping[str, Any]:
    """What `save_learned` wrote.

    Args:
        folder: Where.
        kind: As it was saved.
        remedy: What to do where it cannot be read; None: fit an aggregator of this name.

    Raises:
        ConfigError: There is none, it is not whole, of another kind, or of a newer program.
    """
    path = folder / NAME
    remedy = (
        remedy
        or f"fit it with `composer fit --aggregator {kind} --outcomes OUTCOMES --save {folder}`"
    )
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"{folder}: holds no saved aggregator; {remedy}") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc}); {remedy}") from exc
    if not isinstance(whole, dict) or not {"kind", "schema_version", "learned"} <= whole.keys():
        raise ConfigError(f"{path}: is no saved aggregator; {remedy}")
    found = cast("dict[str, Any]", whole)
    if found["kind"] != kind:
        raise ConfigError(f"{path}: holds a {found['kind']!r}, not a {kind!r}; {remedy}")
    if found["schema_version"] != SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: has schema version {found['schema_version']!r} and this program reads "
            f"{SCHEMA_VERSION}; install a newer one, or {remedy}"
        )
    return cast("Mapping[str, Any]", found["learned"])
