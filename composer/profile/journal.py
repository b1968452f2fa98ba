"""What a profile has been told, a JSON line each, on disk before anything is made of it.

    {"schema_version": 1, "cases": "SHA-256 of their ids and prompts"}
    {"expert": "smol", "settings": "SHA-256 of its engine, source, arguments and sampling"}
    {"request": "SHA-256 of what was asked", "outcome": {"request_id": ..., "samples": [...]}}

Of two outcomes of a request the later holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from composer.appending import TakenUp
from composer.errors import ConfigError
from composer.fingerprint import digest
from composer.profile.cases import Case
from composer.types import Completion, Failure, Outcome, Request, RequestId

FILE = "journal.jsonl"
SCHEMA_VERSION = 1
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Completion | Failure)


class Journal(TakenUp):
    """A profile's outcomes, kept in a folder; `with` it, alone: it is locked while it is open."""

    def __init__(self, folder: Path, cases: Sequence[Case], settings: Mapping[str, str]) -> None:
        """Store what the journal is about; nothing is read or written before `with`.

        Args:
            folder: Made if it does not exist.
            cases: All cases.
            settings: What the settings of each expert that may be asked come to.
        """
        super().__init__(folder / FILE)
        self._file = folder / FILE
        self._cases = digest([_asked(case) for case in cases])
        self._settings = settings
        self._admitted: dict[str, str] = {}
        self._known: dict[RequestId, tuple[str, Outcome]] = {}

    def admit(self, expert: str) -> None:
        """Note that an expert is asked with its settings.

        Raises:
            ConfigError: It was asked with others before.
        """
        now = self._settings[expert]
        if self._admitted.get(expert, now) != now:
            raise ConfigError(
                f"{self._file}: expert {expert!r} was asked with other engine settings; restore "
                "them, or name another folder"
            )
        if expert not in self._admitted:
            self._admitted[expert] = now
            self._write({"expert": expert, "settings": now})

    def outcome(self, request: Request) -> Outcome | None:
        """What is known of a request; None: nothing, or it was asked otherwise then."""
        asked, outcome = self._known.get(request.id, (None, None))
        return outcome if asked == _request_digest(request) else None

    def add(self, request: Request, outcome: Outcome) -> None:
        """Keep an outcome: it survives whatever ends this process."""
        asked = _request_digest(request)
        self._known[request.id] = (asked, outcome)
        self._write({"request": asked, "outcome": _OUTCOME.dump_python(outcome, mode="json")})

    def _take_up(self) -> None:
        for number, (_, line) in enumerate(self._lines.take_up(), start=1):
            try:
                self._take_in(number, json.loads(line))
            except (KeyError, TypeError, ValueError) as exc:
                raise ConfigError(
                    f"{self._file}:{number}: is no line of a journal; remove it, or name another "
                    "folder"
                ) from exc
        if self._lines.end == 0:
            self._write({"schema_version": SCHEMA_VERSION, "cases": self._cases})

    def _take_in(self, number: int, line: dict[str, Any]) -> None:
        if number == 1:
            self._check_header(line)
        elif "expert" in line:
            self._admitted[line["expert"]] = line["settings"]
        else:
            outcome = _OUTCOME.validate_python(line["outcome"])
            self._known[outcome.request_id] = (line["request"], outcome)

    def _check_header(self, line: dict[str, Any]) -> None:
        if line["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(
                f"{self._file}: has schema version {line['schema_version']!r}, and this program "
                f"reads {SCHEMA_VERSION}; update it, or name another folder"
            )
        if line["cases"] != self._cases:
            raise ConfigError(
                f"{self._file}: is of other cases; restore their ids and prompts, or name another "
                "folder"
            )

    def _write(self, line: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps(line).encode())


def _request_digest(request: Request) -> str:
    """Of what is asked, and not of how long one waits for it."""
    asked = asdict(request)
    del asked["deadline_s"]
    return digest(asked)


def _asked(case: Case) -> list[str | int]:
    """What of a case an expert's answer depends on."""
    return [case.id, case.prompt, *([] if case.max_tokens is None else [case.max_tokens])]
