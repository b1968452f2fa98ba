"""A quiz that each of three scripted experts knows a part of, and compositions of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from composer.assembly import compose
from composer.experts import load_experts
from composer.orchestrator import Composer
from composer.profile import Case
from eval.live.folder import Options
from eval.live.run import LiveRun, run_live
from eval.tasks.task import Task
from routers.encoder import HashingEncoder

KINDS = ("sum", "date", "city")
N_TRAIN, N_TEST = 2, 4
"""Of each kind."""
SILENT = "I do not know."
FIXED = {"name": "fixed", "expert": "ada"}
RETRIEVAL = {"name": "retrieval"}
COMPOSITIONS: Mapping[str, Any] = {
    "ada-alone": {"router": FIXED},
    "routed": {"router": RETRIEVAL},
    "panel": {
        "router": RETRIEVAL,
        "choose": {"k": 2},
        "aggregator": {"name": "synthesis", "by": "cas"},
    },
    "vote": {
        "router": RETRIEVAL,
        "choose": {"k": 2},
        "aggregator": {"name": "vote", "answer_type": "number"},
    },
    "described": {"router": {"name": "description", "annotator": "cas"}},
    "shy": {"router": {"name": "random"}, "choose": {"threshold": 1.0, "abstain": True}},
}


def prompt(kind: str, number: int) -> str:
    """Whoever says it again is right."""
    return f"{kind} {number}: the answer is {number}"


def make_case(kind: str, number: int, split: str) -> Case:
    return Case(f"{kind}-{number}", prompt(kind, number), f"{number}", "number", kind, split)


def make_quiz(n_test: int = N_TEST) -> Task:
    """Questions of three kinds, in train and in test."""
    train = [make_case(kind, n, "train") for n in range(N_TRAIN) for kind in KINDS]
    test = [make_case(kind, 10 + n, "test") for n in range(n_test) for kind in KINDS]
    return Task("quiz", (*train, *test))


def make_experts(
    folder: Path,
    *,
    experts: Mapping[str, Mapping[str, Any]] | None = None,
    compositions: Mapping[str, Any] = COMPOSITIONS,
) -> str:
    """An experts.yaml, as JSON: ada knows sums and dates, bob cities, and cas is always wrong.

    Each writes the ids of the requests that it begins into a log of the folder.
    """
    scripts: dict[str, dict[str, Any]] = {
        "ada": {"text": "{prompt}", "replies": {"city": SILENT}},
        "bob": {"text": SILENT, "replies": {"city": "{prompt}"}},
        "cas": {"text": "The answer is -1."},
    }
    examples = {
        "ada": [prompt("sum", 1), prompt("date", 1)],
        "bob": [prompt("city", 1)],
        "cas": ["tell me a long story about two dragons"],
    }
    entries = {
        name: {
            "engine": "scripted",
            "engine_args": {
                "log": str(folder / "asked.log"),
                "memory_gib": 1,
                **script,
                **(experts or {}).get(name, {}),
            },
            "examples": examples[name],
            "description": f"Answers questions such as: {examples[name][0]}",
            "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        }
        for name, script in scripts.items()
    }
    pool = {"memory_gib": 8, "cores": 1}
    return json.dumps({"experts": entries, "compositions": compositions, "pool": pool})


@dataclass(frozen=True)
class Quiz:
    """Runs of the quiz in a folder of the test's own."""

    folder: Path

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def composer(self, **options: Any) -> Composer:
        """A composer whose router embeds without a model; options as of `make_experts`."""
        path = self.folder / "experts.yaml"
        path.write_text(make_experts(self.folder, **options), encoding="utf-8")
        return compose(load_experts(path), cache=self.folder, encoder=HashingEncoder(256))

    async def run(
        self,
        *compositions: str,
        tasks: Sequence[Task] | None = None,
        outcomes: Path | None = None,
        on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
        experts: Mapping[str, Mapping[str, Any]] | None = None,
        run_dir: Path | None = None,
        **options: Any,
    ) -> LiveRun:
        """Run the quiz, or other tasks; options as of `Options`."""
        async with self.composer(experts=experts) as composer:
            return await run_live(
                composer,
                [make_quiz()] if tasks is None else tasks,
                compositions,
                self.run_dir if run_dir is None else run_dir,
                Options(**options),
                outcomes=outcomes,
                on_progress=on_progress,
            )

    def asked(self) -> list[str]:
        """The ids of all requests that engines have begun."""
        log = self.folder / "asked.log"
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of a file of the run."""
        text = (self.run_dir / name).read_text("utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        return json.loads((self.run_dir / name).read_text("utf-8"))


@pytest.fixture
def quiz(tmp_path: Path) -> Quiz:
    return Quiz(tmp_path)
