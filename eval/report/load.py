"""A run's folder -> what a report shows of it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable, load_table
from composer.outcomes.lines import describe
from eval.live.attribution import Attribution
from eval.live.folder import EXPERTS, load_attributions
from eval.live.folder import KIND as LIVE
from eval.replay.judged import Judged
from eval.replay.rows import Row
from eval.replay.run_folder import RunFolder
from eval.report.looks import ladder_place

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number; null, which stands for an unknown one, is NaN."""


class Manifest(BaseModel):
    """What manifest.json says of a run."""

    kind: Literal["replay", "pair", "live"]
    config_hash: str
    dataset: str
    experts: tuple[str, ...]
    command: tuple[str, ...]
    options: dict[str, Any]
    versions: dict[str, str]


class Curve(BaseModel):
    """Accuracy by the share of strong calls."""

    strong_share: tuple[Number, ...]
    accuracy: tuple[Number, ...]


class PairLine(BaseModel):
    """A row of a run between a strong and a weak expert."""

    method: str
    prefix: str
    labels: int
    n_seeds: int
    n: int
    apgr: Number
    apgr_ci95: tuple[Number, Number]
    cpt50: Number
    cpt80: Number
    category: str = ""
    curve: Curve


class PairFile(BaseModel):
    """What rows.json holds of such a run."""

    strong: str
    weak: str
    strong_accuracy: Number
    weak_accuracy: Number
    rows: tuple[PairLine, ...]


class NotRun(BaseModel):
    """A method that could not run on this data."""

    method: str
    reason: str


class ReplayFile(BaseModel):
    """What rows.json holds of a replay."""

    rows: tuple[dict[str, Any], ...]
    not_run: tuple[NotRun, ...] = ()


@dataclass(frozen=True)
class JudgedPart:
    """One split of a replay: its rows, in the ladder's order, and every decision behind them."""

    name: str
    rows: tuple[Row, ...]
    table: OutcomeTable
    """What was judged, in the order of the decisions."""
    judged: Mapping[str, Judged]

    @cached_property
    def row_of(self) -> dict[str, Row]:
        """The rows by method."""
        return {row.method: row for row in self.rows}

    @property
    def n(self) -> str:
        """Queries whose score is known: of every method, or of the fewest to the most."""
        fewest, most = (end(row.n for row in self.rows) for end in (min, max))
        return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


@dataclass(frozen=True)
class ReplayRun:
    """A replay, or a live run, whose compositions were asked and whose rungs are replayed."""

    name: str
    manifest: Manifest
    table: OutcomeTable
    parts: tuple[JudgedPart, ...]
    not_run: tuple[NotRun, ...]
    attributions: tuple[Attribution, ...] = ()
    """Of a live run: where each gain over the best single expert comes from."""


@dataclass(frozen=True)
class PairRun:
    """Routers between a strong and a weak expert."""

    name: str
    manifest: Manifest
    found: PairFile


Run = ReplayRun | PairRun
FileT = TypeVar("FileT", bound=BaseModel)


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of some folders, each of them once and under a name of its own.

    Raises:
        ConfigError: A folder holds no run, or one that is unfinished or damaged.
    """
    paths = list({path.resolve(): path for path in paths}.values())
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [_load_run(path, name) for path, name in zip(paths, names, strict=True)]


def _load_run(path: Path, name: str) -> Run:
    if not (path / "manifest.json").is_file():
        raise ConfigError(
            f"{str(path)!r} holds no run (no manifest.json); name a folder that "
            "`python -m eval replay DIR --out FOLDER` or `python -m eval run` made"
        )
    manifest = _read(path / "manifest.json", Manifest)
    if not (path / "rows.json").is_file():
        raise ConfigError(
            f"{str(path)!r} holds an unfinished run (no rows.json); finish it: "
            f"python -m eval {shlex.join(manifest.command)}"
        )
    if manifest.kind == "pair":
        return PairRun(name, manifest, _read(path / "rows.json", PairFile))
    found = _read(path / "rows.json", ReplayFile)
    is_live = manifest.kind == LIVE
    table = load_table(path / (EXPERTS if is_live else "table"))
    rows = [_to_row(path / "rows.json", values) for values in found.rows]
    parts = [
        _load_part(RunFolder(path), table, split, sorted(of_split, key=_place))
        for split, of_split in groupby(rows, key=lambda row: row.split)
    ]
    attributions = tuple(load_attributions(path)) if is_live else ()
    return ReplayRun(name, manifest, table, tuple(parts), found.not_run, attributions)


def _load_part(
    folder: RunFolder, table: OutcomeTable, split: str, rows: Sequence[Row]
) -> JudgedPart:
    judged: dict[str, Judged] = {}
    for row in rows:
        decided = folder.load(split, row.method)
        if decided is None:
            raise _damaged(folder.path, f"no decisions of {row.method!r} on {split!r}")
        judged[row.method] = decided
    number = {query.id: i for i, query in enumerate(table.queries)}
    asked = [decision.query_id for decision in judged[rows[0].method].decisions]
    if not number.keys() >= set(asked):
        raise _damaged(folder.path, f"decisions on {split!r} about queries that its table lacks")
    return JudgedPart(split, tuple(rows), table.rows([number[each] for each in asked]), judged)


def _place(row: Row) -> int:
    return ladder_place(row.method)


def _to_row(file: Path, values: Mapping[str, Any]) -> Row:
    """A row from its JSON form: null is an unknown number, unknown keys are figures."""
    names = {field.name for field in fields(Row)} - {"figures"}
    known = {key: _unknown_as_nan(value) for key, value in values.items() if key != "settings"}
    row: dict[str, Any] = {key: value for key, value in known.items() if key in names}
    row["settings"] = values.get("settings", {})
    row["figures"] = {key: value for key, value in known.items() if key not in names}
    try:
        return TypeAdapter(Row).validate_python(row)
    except ValidationError as exc:
        raise ConfigError(f"{file}: {describe(exc)}; run its command again") from exc


def _unknown_as_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_unknown_as_nan(end) for end in cast("list[Any]", value)]
    return math.nan if value is None else value


def _read(file: Path, form: type[FileT]) -> FileT:
    try:
        return form.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as exc:
        raise ConfigError(f"{file}: {describe(exc)}; name another folder, or run it again") from exc
    except ValueError as exc:
        raise ConfigError(f"{file}: is no JSON; name another folder, or run it again") from exc


def _damaged(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{str(path)!r}: {what}; run its command again")
