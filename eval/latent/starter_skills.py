"""`python -m eval.latent.starter_skills`: whether Gemma's states help SmolLM2, and with what."""

# scipy is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap

from composer.errors import ComposerError

TASKS = ("skills", "text")
ALONE, ADAPTER = "primary alone", "adapter"
SYSTEMS = (ALONE, "mot", "mot, peers shuffled", "mot, peers zero", ADAPTER)


def run(
    out: Annotated[Path, typer.Option(help="Its folder; what is there is not done again.")],
    experts: Annotated[Path, typer.Option(help="The starter's experts.yaml.")] = Path(
        "experts.yaml"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    steps: Annotated[int, typer.Option(min=1)] = 150,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    questions: Annotated[int, typer.Option(min=1, help="Of each skill.")] = 20,
    output: Annotated[Literal["table", "json"], typer.Option()] = "table",
) -> None:
    """Train SmolLM2 to attend to Gemma, and an adapter of as many parameters, and compare them.

    On the starter's five skills, and on halves of paragraphs of Python's own reference. Controls
    are of test time: peers that think of another question, or of nothing. The same command goes
    on where it was ended.

    python -m eval.latent.starter_skills --out runs/latent-starter
    """
    try:
        rows = _run(out, experts, seeds, steps, batch, questions)
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(1) from None
    if output == "json":
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    table = Table("task", "system", "seeds", "n", "right [95 %]", "to mot", "nats [95 %]", "to mot")
    for row in rows:
        table.add_row(
            row["task"], row["system"], str(row["seeds"]), str(row["n"]),
            *(_shown(row[key]) for key in ("right", "right_to_mot", "nats", "nats_to_mot")),
        )  # fmt: skip
    Console().print(table)


def _run(
    out: Path, experts: Path, seeds: int, steps: int, batch: int, each: int
) -> list[dict[str, Any]]:
    # Torch and transformers take seconds to import, and help needs neither.
    from composer.latent.recipe import Recipe
    from composer.latent.states_cache import StatesCache
    from eval.latent.starter_rows import skill_questions, skill_rows, text_questions, text_rows
    from eval.latent.starter_runs import kept, load_pair, run_adapter, run_alone, run_group

    makers = {"skills": skill_rows, "text": text_rows}
    asked = {"skills": skill_questions(each), "text": text_questions()}
    out.mkdir(parents=True, exist_ok=True)
    cache = StatesCache(out / "states")
    pair = load_pair(experts)
    measured: dict[str, dict[str, list[Mapping[str, list[float]]]]] = {}
    for task in TASKS:
        found = kept(
            out / f"{task}-alone.json", lambda t=task: {ALONE: run_alone(pair, asked[t], cache)}
        )
        measured[task] = {ALONE: [found[ALONE]]}
    # The same rows for all seeds, which order them and draw first weights: peers read them once.
    data = {task: makers[task](steps * batch, 0) for task in TASKS}
    for seed, task in product(range(seeds), TASKS):
        recipe = Recipe(steps=steps, batch=batch, seed=seed)

        def tell(step: int, total: int, what: str = f"{task}, seed {seed}") -> None:
            if step % 10 == 0:
                sys.stderr.write(f"{what}: step {step} of {total}\n")

        def group(t: str = task, r: Recipe = recipe) -> Any:
            return run_group(pair, data[t], asked[t], out / f"{t}-mot-{r.seed}", r, tell)

        def adapter(t: str = task, r: Recipe = recipe) -> Any:
            folder = out / f"{t}-adapter-{r.seed}"
            return {ADAPTER: run_adapter(pair, data[t], asked[t], folder, r, cache, tell)}

        for name, make in (("mot", group), ("adapter", adapter)):
            for system, values in kept(out / f"{task}-{name}-{seed}.json", make).items():
                measured[task].setdefault(system, []).append(values)
    return [row for task in TASKS for row in summary(task, measured[task])]


def summary(
    task: str, measured: Mapping[str, Sequence[Mapping[str, list[float]]]]
) -> list[dict[str, Any]]:
    """A row a system: means over seeds and questions, with intervals over questions.

    Args:
        task: Its name.
        measured: By system and seed, `right` and `nats` of each question.
    """
    rows: list[dict[str, Any]] = []
    means = {
        (system, figure): np.mean([one[figure] for one in of_seeds], axis=0)
        for system, of_seeds in measured.items()
        for figure in ("right", "nats")
    }
    for system in [s for s in SYSTEMS if s in measured]:
        row: dict[str, Any] = {"task": task, "system": system, "seeds": len(measured[system])}
        row["n"] = len(means[system, "nats"])
        for figure in ("right", "nats"):
            values = means[system, figure]
            row[figure] = _with_interval(values)
            row[f"{figure}_to_mot"] = (
                _with_interval(values - means["mot", figure]) if system != "mot" else None
            )
        rows.append(row)
    return rows


def _with_interval(values: Any) -> dict[str, float] | None:
    """The mean of questions, and its 95 % interval by bootstrap; None: there are none."""
    if not len(values):
        return None
    mean = float(np.mean(values))
    if len(values) == 1 or np.ptp(values) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    found = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {"mean": mean, "low": float(found.low), "high": float(found.high)}


def _shown(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


if __name__ == "__main__":
    typer.run(run)
