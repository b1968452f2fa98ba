"""What a batch has been told, on disk before anything is made of it, and which queries are done.

    {"schema_version": 1, "batch": {...}}                        what it is a journal of
    {"row": 7, "before": 1201, "outcome": {"request_id": ...}}   the row's line before: at byte 1201
    {"row": 7, "done": 5310, "failed": false}                    its result ends at byte 5310

Outcomes are sent to flows one at a time in the order of their lines, so a flow is rebuilt by
sending them again. In memory a row is one number: where its last line begins.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from composer.appending import TakenUp
from composer.errors import ConfigError
from composer.types import Completion, Failure, Outcome

SCHEMA_VERSION = 1
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Completion | Failure)


class Journal(TakenUp):
    """The outcomes of one batch; `with` it, alone: the file is locked while it is open."""

    def __init__(self, path: Path, n_rows: int, about: Mapping[str, str]) -> None:
        """Store what the journal is of; nothing is read or written before `with`.

        Args:
            path: Its file; made with its folder where there is none.
            n_rows: Queries of the batch.
            about: What must be the same when the batch goes on, by names for messages.
        """
        super().__init__(path)
        self.path = path
        self.results_end = 0
        """Where the results end that are known to be whole."""
        self.n_done = 0
        self.n_failed = 0
        """Of those that are done."""
        self._about = dict(about)
        self._last = array("q", [-1]) * n_rows
        self._done = bytearray(n_rows)

    def is_done(self, row: int) -> bool:
        """Whether the row's result is written."""
        return bool(self._done[row])

    def outcomes(self, row: int) -> list[Outcome]:
        """All that was sent to the row's flow, in order."""
        found: list[Outcome] = []
        at = self._last[row]
        while at >= 0:
            line = json.loads(self._lines.line(at))
            found.append(_OUTCOME.validate_python(line["outcome"]))
            at = line["before"]
        return found[::-1]

    def add(self, row: int, outcome: Outcome) -> None:
        """Keep an outcome, after all others of the row.

        Raises:
            ConfigError: The disk is full, or cannot be written.
        """
        told = _OUTCOME.dump_python(outcome, mode="json")
        self._last[row] = self._write({"row": row, "before": self._last[row], "outcome": told})

    def finish(self, row: int, results_end: int, *, failed: bool) -> None:
        """Keep that the row's result is written, and where the results end now.

        Raises:
            ConfigError: The disk is full, or cannot be written.
        """
        self._write({"row": row, "done": results_end, "failed": failed})
        self._note_done(row, results_end, failed)

    def _note_done(self, row: int, results_end: int, failed: bool) -> None:
        self.n_done += 1
        self.n_failed += failed
        self._done[row] = True
        self.results_end = results_end

    def _take_up(self) -> None:
        for number, (begin, line) in enumerate(self._lines.take_up(), start=1):
            try:
                self._take_in(number, begin, json.loads(line))
            except (KeyError, TypeError, ValueError, IndexError) as exc:
                raise ConfigError(
                    f"{self.path}:{number}: is no line of a journal; name another folder"
                ) from exc
        if self._lines.end == 0:
            self._write({"schema_version": SCHEMA_VERSION, "batch": self._about})

    def _take_in(self, number: int, begin: int, line: dict[str, Any]) -> None:
        if number == 1:
            self._check(line)
        elif "done" in line:
            self._note_done(line["row"], line["done"], line["failed"])
        else:
            self._last[line["row"]] = begin

    def _check(self, line: dict[str, Any]) -> None:
        if line["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path}: has schema version {line['schema_version']!r}, and this program "
                f"reads {SCHEMA_VERSION}; update it, or name another folder"
            )
        was: dict[str, str] = line["batch"]
        for what, value in self._about.items():
            if was.get(what) != value:
                raise ConfigError(
                    f"{self.path}: {what} is another than when the run began "
                    f"({was.get(what)} then, {value} now); restore it, or name another folder"
                )

    def _write(self, line: Mapping[str, Any]) -> int:
        """Append a line; where it begins."""
        return self._lines.append(json.dumps(line).encode())
