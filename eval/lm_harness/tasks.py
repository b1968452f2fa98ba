"""The harness' tasks by name or file, and whether a composition can do them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from composer.errors import ConfigError
from composer.experts import Registry
from composer.suggest import unknown_name
from eval.lm_harness.library import TaskManager
from eval.lm_harness.scoring import scoring_expert

GENERATED, CHOSEN = "generate_until", "multiple_choice"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tasks with their data, in the harness' own classes."""

    named: tuple[Any, ...]
    """The tasks and groups that were named."""
    tasks: tuple[Any, ...]
    """All tasks, those in groups too."""
    manager: Any
    """Of these and others."""


def load_tasks(names: Sequence[str], include_path: Path | None) -> Loaded:
    """Load tasks with their data.

    Args:
        names: Of files of tasks (.yaml), and of tasks, groups or tags: those in `include_path`, or
            without one those that come with the harness.
        include_path: A folder of files of tasks.

    Raises:
        ConfigError: A name or the folder does not exist, or a task or its data cannot be loaded.
    """
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"{include_path}: is no folder; name the one that the task files are in")
    files = {name for name in names if Path(name).suffix == ".yaml"}
    for name in sorted(files):
        if not Path(name).is_file():
            raise ConfigError(f"{name}: there is no such file; name the file of a task")
    manager: Any = TaskManager(
        include_path=include_path,
        # Finding the harness' own thousands of tasks takes seconds.
        include_defaults=include_path is None and files != set(names),
    )
    named: list[Any] = []
    tasks: dict[str, Any] = {}
    for name in names:
        if name not in files and name not in manager.all_tasks:
            raise _unknown(name, manager.all_tasks, include_path)
        loaded = _load(manager, name)
        named += list(loaded["groups"].values())[:1] or loaded["tasks"].values()
        tasks |= loaded["tasks"]
    return Loaded(tuple(named), tuple(tasks.values()), manager)


def check_tasks(tasks: Iterable[Any], registry: Registry, composition: str) -> None:
    """Refuse, before anything is asked, tasks that a composition cannot do.

    Raises:
        ConfigError: A task needs likelihoods and the composition is not one expert that can tell
            them; or it needs what no composition can do.
    """
    for task in tasks:
        name, kind = task.task_name, task.OUTPUT_TYPE
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise ConfigError(f"task {name!r} runs code or shows pictures; leave it out")
        if kind == CHOSEN and "exact_match" not in _metrics(task):
            try:
                scoring_expert(registry, composition)
            except ConfigError as exc:
                raise ConfigError(f"task {name!r} has options: {exc}") from None
        elif kind != GENERATED:
            raise ConfigError(
                f"task {name!r} ({kind}) needs more than the likelihood of options; take tasks "
                f"with 'output_type: {GENERATED}', or {CHOSEN} without the metric exact_match"
            )


def _metrics(task: Any) -> set[str]:
    listed = cast("list[dict[str, Any]]", task.config.metric_list or [])
    return {metric["metric"] for metric in listed}


def _unknown(name: str, known: Sequence[str], include_path: Path | None) -> ConfigError:
    if include_path is not None:
        return ConfigError(f"{include_path}: {unknown_name('task', name, known)}")
    return ConfigError(
        f"no task {name!r} comes with lm-evaluation-harness; name a file of one, or the folder of "
        "yours with --include-path"
    )


def _load(manager: Any, name: str) -> dict[str, Any]:
    try:
        return manager.load([name])
    except Exception as exc:
        # The border: a task file and its data raise whatever they like.
        reason = " ".join((str(exc) or repr(exc)).split())[:400]
        raise ConfigError(
            f"task {name!r} cannot be loaded: {reason}; mend its file, or have its data here"
        ) from exc
