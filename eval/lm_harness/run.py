"""One run of the harness: its tasks, our experts, and its own files of what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.appending import unwritable
from composer.errors import ConfigError
from composer.orchestrator import Composer
from composer.suggest import unknown_name
from eval.lm_harness.library import EvaluationTracker, simple_evaluate
from eval.lm_harness.model import ComposerLM
from eval.lm_harness.tasks import check_tasks, load_tasks
from eval.progress import Bars

ASKED = "asked"


@dataclass(frozen=True, slots=True)
class HarnessRun:
    """What came of a run."""

    results: dict[str, Any]
    """Without the samples, as the harness writes them."""
    folder: Path
    """Holds its files."""
    failures: tuple[str, ...]
    """Why requests were not answered; their texts are empty."""
    ignored: dict[str, int]
    """Settings of generation that are not taken over, and how many requests have each."""


def run_harness(
    composer: Composer,
    composition: str,
    tasks: Sequence[str],
    out: Path,
    *,
    include_path: Path | None,
    limit: int | None,
    bars: Bars,
) -> HarnessRun:
    """Evaluate a composition on tasks of the harness; the composer is closed afterwards.

    Args:
        composer: It has the composition.
        composition: The composition's name, or an expert's.
        tasks: See `load_tasks`.
        out: `results_*.json` and `samples_*.jsonl` go to its folder that is named by the
            composition; what was asked is kept beside, so that a run goes on.
        include_path: A folder of files of tasks.
        limit: Questions of each task; None: all.
        bars: Show how far it is.

    Raises:
        ConfigError: The composition or a task does not exist, they do not go together, or the
            folder cannot be written.
        ComposerError: Nothing was answered; see `ComposerLM`.
    """
    with asyncio.Runner() as runner:
        try:
            known = [*composer.compositions, *composer.registry.experts]
            if composition not in known:
                raise ConfigError(unknown_name("composition", composition, known))
            loaded = load_tasks(tasks, include_path)
            check_tasks(loaded.tasks, composer.registry, composition)
            asked = _made(out / ASKED)
            model = ComposerLM(composer, composition, asked, runner=runner, bars=bars)
            tracker: Any = EvaluationTracker(output_path=str(out))
            results: Any = simple_evaluate(
                model=model,
                model_args={"model": composition},
                tasks=list(loaded.named),
                task_manager=loaded.manager,
                limit=limit,
                log_samples=True,
                evaluation_tracker=tracker,
            )
        finally:
            runner.run(composer.pool.close())
    samples = results.pop("samples")
    folder = out / tracker.general_config_tracker.model_name_sanitized
    save_files(tracker, results, samples, folder)
    return HarnessRun(results, folder, tuple(model.failures), model.ignored)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unwritable(folder, exc) from exc
    return folder


def save_files(
    tracker: Any, results: dict[str, Any], samples: Mapping[str, list[Any]], folder: Path
) -> None:
    """Have the harness write its files, which only logs that it could not.

    Args:
        tracker: The harness', told of the model.
        results: What all samples come to.
        samples: By task.
        folder: Where the tracker writes.

    Raises:
        ConfigError: A file is missing, or not whole.
    """
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    n_lines = {f"samples_{task}_{tracker.date_id}.jsonl": len(samples[task]) for task in samples}
    for name, n in {f"results_{tracker.date_id}.json": 1, **n_lines}.items():
        file = folder / name
        if not file.is_file() or len(file.read_bytes().splitlines()) < n:
            raise ConfigError(f"{file}: cannot be written; name another --out")
