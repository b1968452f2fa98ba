"""A run's folder: what was run on what, and one JSON line a decision; an interrupted run resumes.

manifest.json                   data, options, versions and their hash
table/                          the judged outcomes, as `OutcomeTable` saves them
decisions/PART/METHOD.jsonl     one line a decision
decisions/PART/METHOD.json      the settings; it comes last, so a method that has one is done
rows.json                       the report's rows; it comes when all is done
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from eval.replay.judged import Decision, Judged

PACKAGES = ("multi-llm-composer", "numpy", "scipy", "scikit-learn", "sentence-transformers")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    def load(self, part: str, method: str) -> Judged | None:
        """A method's decisions on a part, if a run has finished it."""
        lines, done = self.files(part, method)
        if not done.exists():
            return None
        about = json.loads(done.read_text(encoding="utf-8"))
        texts = lines.read_text(encoding="utf-8").splitlines()
        decisions = tuple(_from_line(json.loads(text)) for text in texts)
        quality = lines.with_suffix(".npy")
        predicted = np.load(quality, allow_pickle=False) if quality.exists() else None
        return Judged(method, decisions, about["settings"], predicted)

    def save(self, part: str, judged: Judged) -> None:
        """Keep a method's decisions on a part."""
        lines, done = self.files(part, judged.method)
        lines.parent.mkdir(parents=True, exist_ok=True)
        texts = [json.dumps(_to_line(decision)) + "\n" for decision in judged.decisions]
        lines.write_text("".join(texts), encoding="utf-8")
        if judged.quality is not None:
            np.save(lines.with_suffix(".npy"), judged.quality, allow_pickle=False)
        write_json(done, {"settings": judged.settings})

    def files(self, part: str, method: str) -> tuple[Path, Path]:
        """Where a method's lines on a part are, and what says that they are done."""
        # A method's name holds its settings, and those may hold a slash; so may a split's name.
        split, name = (quote(each, safe="+[]=,-_") for each in (part, method))
        folder = self.path / "decisions" / split
        return folder / f"{name}.jsonl", folder / f"{name}.json"


def open_run(path: Path, manifest: Mapping[str, Any]) -> RunFolder:
    """The folder of a run, new or begun before with an equal manifest.

    Raises:
        ConfigError: It holds another run, or something else, or cannot be written.
    """
    file = path / "manifest.json"
    if file.exists():
        try:
            begun = json.loads(file.read_text(encoding="utf-8"))["config_hash"]
        except (ValueError, KeyError, TypeError) as exc:
            raise ConfigError(f"{file}: not a run's manifest; name another folder") from exc
        if begun != manifest["config_hash"]:
            raise ConfigError(
                f"{path}: holds a run on other data or with other options; name another folder, "
                "or remove it"
            )
    elif path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(f"{path}: is not empty and holds no run; name another folder")
    try:
        write_json(file, manifest)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc}); name another folder") from exc
    return RunFolder(path)


def make_manifest(kind: str, table: OutcomeTable, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run depends on, and the hash of that; versions are told but not hashed."""
    config = {"kind": kind, "data_sha256": fingerprint(table), "options": dict(options)}
    return describe_run(config, table.name, table.names)


def describe_run(config: Mapping[str, Any], dataset: str, experts: Sequence[str]) -> dict[str, Any]:
    """A manifest.

    Args:
        config: What is hashed: a folder takes up no run of another one.
        dataset: The name of what is judged on.
        experts: Whose outcomes these are.
    """
    encoded = json.dumps(config, sort_keys=True, default=str).encode()
    return {
        **config,
        "config_hash": hashlib.sha256(encoded).hexdigest(),
        "dataset": dataset,
        "experts": list(experts),
        "command": sys.argv[1:],
        "versions": {"python": platform.python_version(), **_versions()},
    }


def fingerprint(table: OutcomeTable) -> str:
    """A hash of what decides the figures: prompts, categories, splits, scores, costs, answers."""
    digest = hashlib.sha256()
    for q in table.queries:
        digest.update(repr((q.id, q.prompt, q.split, q.category, sorted(q.flags))).encode())
    digest.update(repr(table.names).encode())
    for cells in (table.score, table.cost_usd):
        digest.update(b"none" if cells is None else np.ascontiguousarray(cells).tobytes())
    if table.answers is not None:
        digest.update(repr(table.answers.values).encode())
        digest.update(np.ascontiguousarray(table.answers.codes).tobytes())
    return digest.hexdigest()


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def _to_line(decision: Decision) -> dict[str, Any]:
    return {
        "query_id": decision.query_id,
        "expert": decision.expert,
        "asked": decision.asked,
        "score": _or_null(decision.score),
        "cost_usd": _or_null(decision.cost_usd),
        "predicted": _or_null(decision.predicted),
        "failed": decision.failed,
    }


def _from_line(line: Mapping[str, Any]) -> Decision:
    score, cost, predicted = (
        float("nan") if line[key] is None else cast("float", line[key])
        for key in ("score", "cost_usd", "predicted")
    )
    asked: Sequence[str] = line["asked"]
    return Decision(
        line["query_id"], line["expert"], tuple(asked), score, cost, predicted, line["failed"]
    )


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
