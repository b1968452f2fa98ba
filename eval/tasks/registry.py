"""The tasks that there are, by the names that people type after --task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from composer.errors import ConfigError
from composer.profile import read_cases
from composer.suggest import unknown_name
from eval.tasks.arc import ARC_HUB, ARC_PATTERNS, arc
from eval.tasks.gsm8k import HUB as GSM8K_HUB
from eval.tasks.gsm8k import gsm8k
from eval.tasks.humaneval import HUB as HUMANEVAL_HUB
from eval.tasks.humaneval import humaneval
from eval.tasks.mmlu import MMLU_HUB, MMLU_PATTERNS, PRO_HUB, mmlu, mmlu_pro
from eval.tasks.parts import PATTERNS, Download, Hub, Part, fetch_parts, find_parts, hub_file
from eval.tasks.starter import starter_task
from eval.tasks.subset import check_leaks, limit, without_leaks
from eval.tasks.task import Task

__all__ = ["TASKS", "Entry", "limit", "load_task"]

OWN = ".jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name, or a family of names."""

    usage: str
    """What is typed."""
    about: str
    """One line for people."""
    load: Callable[[str | None, Download], Task]
    """Given what stands behind the colon, or None, and what fetches files."""
    runs_code: bool = False
    """Whether its scorer runs what experts write."""


def _starter(skill: str | None, download: Download) -> Task:
    return starter_task(skill)


def _benchmark(
    make: Callable[[Sequence[Part]], Task],
    hub: Hub,
    path: str | None,
    download: Download,
    *,
    patterns: Sequence[str] = PATTERNS,
) -> Task:
    if path is None:
        return make(fetch_parts(hub, download))
    return make(find_parts(Path(path), patterns))


def _own(path: str | None, download: Download) -> Task:
    file = Path(path or "")
    return Task(file.stem, read_cases(file))


TASKS: Mapping[str, Entry] = {
    "starter": Entry(
        "starter[:SKILL]",
        "the starter pool's narrow skills; 50 questions of each in train and 100 in test",
        _starter,
    ),
    "gsm8k": Entry(
        "gsm8k[:PATH]",
        "word problems of grade school mathematics; numbers",
        partial(_benchmark, gsm8k, GSM8K_HUB),
    ),
    "mmlu": Entry(
        "mmlu[:PATH]",
        "questions of 57 subjects; one of four options",
        partial(_benchmark, mmlu, MMLU_HUB, patterns=MMLU_PATTERNS),
    ),
    "mmlu-pro": Entry(
        "mmlu-pro[:PATH]",
        "harder questions of 14 subjects; one of up to ten options",
        partial(_benchmark, mmlu_pro, PRO_HUB),
    ),
    "arc": Entry(
        "arc[:PATH]",
        "science questions of grade school (from the hub: ARC-Challenge); one of four options",
        partial(_benchmark, arc, ARC_HUB, patterns=ARC_PATTERNS),
    ),
    "humaneval": Entry(
        "humaneval[:PATH]",
        "Python functions to complete; judged by running them, with --allow-code-execution",
        partial(_benchmark, humaneval, HUMANEVAL_HUB),
        runs_code=True,
    ),
    OWN: Entry("FILE.jsonl", "your own cases, as composer profile reads them", _own),
}


def load_task(
    name: str,
    *,
    allow_code_execution: bool = False,
    drop_leaks: bool = False,
    download: Download = hub_file,
) -> Task:
    """The task of a name, ready to be scored.

    Args:
        name: As in `TASKS`; what ends in .jsonl is a file of own cases, unless it begins with the
            name of a benchmark and a colon.
        allow_code_execution: Of a task that is scored by running what experts write; it is refused
            otherwise. See `eval.tasks.code_execution` for what that risks.
        drop_leaks: Leave out train questions that are in test as well, instead of refusing them.
        download: Fetches what has no path.

    Raises:
        ConfigError: There is no such task or file, a row of it is wrong, a test question of it is
            in train, or its code may not be run.
    """
    entry, rest = _find(name)
    if entry.runs_code and not allow_code_execution:
        raise ConfigError(
            f"{name!r} is scored by running what experts write; allow that with "
            "--allow-code-execution, where they can do no harm"
        )
    task = entry.load(rest, download)
    if drop_leaks:
        return without_leaks(task)
    check_leaks(task)
    return task


def _find(name: str) -> tuple[Entry, str | None]:
    """The entry of a name, and what stands behind the colon."""
    kind, colon, rest = name.partition(":")
    if kind in TASKS and kind != OWN:
        return TASKS[kind], rest if colon else None
    if name.endswith(OWN):
        return TASKS[OWN], name
    raise ConfigError(unknown_name("task", kind, [*(TASKS.keys() - {OWN}), "FILE.jsonl"]))
