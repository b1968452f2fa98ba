"""Batches of scripted experts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from composer.bulk import BatchReport
from composer.orchestrator import Composer
from tests.composer.conftest import MakeComposer

EXPERTS = ("ann", "ben", "cas", "dan")


def registry(
    compositions: Mapping[str, Any],
    *,
    experts: Mapping[str, Mapping[str, Any]] | None = None,
    pool: Mapping[str, Any] | None = None,
    runner: str = "inline",
) -> str:
    """An experts.yaml (as JSON) of experts that say their names, with memory for two."""
    script = {"text": "{expert}: {prompt}", "memory_gib": 1}
    return json.dumps(
        {
            "experts": {
                name: {
                    "engine": "scripted",
                    "runner": runner,
                    "engine_args": script | dict((experts or {}).get(name, {})),
                }
                for name in EXPERTS
            },
            "compositions": compositions,
            "pool": {"memory_gib": 2, "cores": 1} | dict(pool or {}),
        }
    )


RANDOM: Mapping[str, Any] = {"name": "random"}
ONE = {"router": RANDOM, "choose": {"k": 1}, "aggregator": {"name": "best"}}
PANEL = {"router": RANDOM, "choose": {"k": 2}, "aggregator": {"name": "synthesis", "by": "ben"}}
VOTE = {
    "router": RANDOM,
    "choose": {"k": 3},
    "aggregator": {"name": "vote", "answer_type": "text"},
}


@dataclass(frozen=True)
class Bulk:
    """Runs batches in a folder of the test's own."""

    folder: Path
    composer: Callable[[str], Composer]

    def write(self, lines: Sequence[Any], name: str = "in.jsonl") -> Path:
        """A batch file of JSON values, or of text as it is."""
        path = self.folder / name
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(line + "\n" for line in text), "utf-8")
        return path

    def questions(self, n: int) -> Path:
        """A batch file of n plain lines."""
        return self.write([{"id": f"q{i}", "prompt": f"why {i}?"} for i in range(n)])

    async def run(
        self, text: str, path: Path, composition: str = "main", **options: Any
    ) -> BatchReport:
        """Answer a batch file, with the run's folder beside it."""
        async with self.composer(text) as composer:
            return await composer.batch(path, composition, self.folder / "run", **options)

    def results(self) -> list[dict[str, Any]]:
        """All result lines."""
        text = (self.folder / "run" / "results.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def asked(self) -> list[str]:
        """The requests whose outcomes the journal has, in order."""
        text = (self.folder / "run" / "journal.jsonl").read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        return [line["outcome"]["request_id"] for line in lines if "outcome" in line]


RunBatch = Callable[..., Awaitable[BatchReport]]


@pytest.fixture
def bulk(tmp_path: Path, composer_of: MakeComposer) -> Bulk:
    return Bulk(tmp_path, composer_of)
