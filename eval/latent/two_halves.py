"""`python -m eval.latent.two_halves`: one model knows the employers, another one the cities.

Questions need both. The interaction is trained on some people of some companies, and judged on
companies that its training never named: only the primary's own facts can tell their cities.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import typer
from rich.table import Table

from composer.appending import write_whole
from composer.errors import ComposerError, ConfigError
from composer.latent.settings import LatentSettings
from eval.console import stdout_console
from eval.latent.halves_ablations import ABLATIONS, ablate
from eval.latent.halves_figures import METHODS, figures, of_ablations
from eval.latent.halves_routing import ROUTED, routed_run
from eval.latent.halves_runs import (
    Experiment,
    Model,
    OnStep,
    Training,
    ask_run,
    make_model,
    train_run,
)
from eval.latent.knowledge import Size
from eval.latent.learning import Course
from eval.latent.small_models import Shape
from eval.progress import open_bars

QUICK = Experiment(
    size=Size(brands=6, trades=6, cities=8, staff=2, held_companies=4, held_people=6),
    primary=Shape("qwen2", depth=3, width=32, steps=40),
    peer=Shape("llama", depth=3, width=32, steps=40),
    other=Shape("gemma3_text", depth=3, width=32, steps=40),
    settings=LatentSettings(levels=1, width=32, insertion="before", think_tokens=8),
    course=Course(steps=10, starts=2, start_steps=2),
)
FIRST_SEED = 3
"""The splits before it were looked at while the course was chosen."""
Show = Callable[[str, int], OnStep]


def two_halves(
    out: Annotated[Path, typer.Option(help="Folder of models, runs and results.json.")],
    seeds: Annotated[int, typer.Option(min=1, help="Splits, each with trainings of its own.")] = 3,
    ablations: Annotated[
        int, typer.Option(min=0, help="Also one change of the mixture at a time, by these seeds.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A rehearsal; its figures say nothing.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    output: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Two small models of different families, each with half of the facts that questions need.

    What is in the folder is not done again.

    python -m eval.latent.two_halves --out runs/two-halves --ablations 3
    """
    torch.set_num_threads(threads)
    try:
        found = _run(QUICK if quick else Experiment(), out, seeds, ablations)
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(1) from None
    write_whole(out / "results.json", json.dumps(found, indent=1) + "\n")
    if output == "json":
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    _print(found)


def _run(experiment: Experiment, out: Path, n_seeds: int, n_ablated: int) -> dict[str, Any]:
    seeds = range(FIRST_SEED, FIRST_SEED + n_seeds)
    if n_ablated > n_seeds:
        raise ConfigError(f"--ablations is {n_ablated}; it takes up to --seeds ({n_seeds})")
    plan = json.loads(json.dumps(asdict(experiment), default=_plain))
    out.mkdir(parents=True, exist_ok=True)
    _check_plan(out / "experiment.json", plan)
    models = out / "models"
    with open_bars() as bars:

        def show(name: str, steps: int) -> OnStep:
            bars.say(name)
            advance = bars.on_rows(name, steps)
            return lambda _step, _loss: advance()

        def make(name: Model) -> None:
            steps = experiment.shape(name).steps
            if not (models / name).is_dir():
                make_model(experiment, name, models / name, show(f"teaching the {name}", steps))

        for name in get_args(Model):
            if n_ablated or name not in ("left", "right"):
                make(name)
        runs = {seed: _runs(experiment, seed, out, show) for seed in seeds}
        changes: dict[str, dict[int, dict[str, Any]]] = {}
        for seed in seeds[:n_ablated]:
            changes.setdefault("as it is", {})[seed] = runs[seed]["mixture"]
            for name in (*ABLATIONS, *ROUTED):
                changes.setdefault(name, {})[seed] = _changed(experiment, name, seed, out, show)
    rights = {
        seed: {name: right for run in of_seed.values() for name, right in run["right"].items()}
        for seed, of_seed in runs.items()
    }
    told = {
        seed: {
            name: {key: value for key, value in run.items() if key != "right"}
            for name, run in of_seed.items()
        }
        for seed, of_seed in runs.items()
    }
    found = {"experiment": plan, "judged": figures(experiment, rights), "runs": told}
    if changes:
        found["ablations"] = of_ablations(experiment, changes)
    return found


def _runs(experiment: Experiment, seed: int, out: Path, show: Show) -> dict[str, dict[str, Any]]:
    """All runs of a seed, those that lack made."""
    file = out / "runs" / f"alone-{seed}.json"
    found = {"alone": _kept(file, lambda: ask_run(experiment, seed, out / "models"))}
    for name in get_args(Training):
        found[name] = _trained(experiment, name, seed, out, show)
    return found


def _trained(
    experiment: Experiment, what: Training, seed: int, out: Path, show: Show
) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        on_step = show(f"seed {seed}: {what}", experiment.course.all_steps)
        return train_run(experiment, what, seed, out / "models", on_step)

    return _kept(out / "runs" / f"{what}-{seed}.json", run)


def _changed(experiment: Experiment, what: str, seed: int, out: Path, show: Show) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        on_step = show(f"seed {seed}: {what}", experiment.course.all_steps)
        if what in ABLATIONS:
            return ablate(experiment, what, seed, out / "models", on_step)
        return routed_run(experiment, what, seed, out / "models", out / "routed", on_step)

    return _kept(out / "ablations" / f"{_file_name(what)}-{seed}.json", run)


def _kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file has, or what is made and put there."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(make()) + "\n")
    return json.loads(file.read_text("utf-8"))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _check_plan(file: Path, plan: dict[str, Any]) -> None:
    """Refuse a folder of another experiment."""
    if file.is_file() and json.loads(file.read_text("utf-8")) != plan:
        raise ConfigError(f"{file}: is of another experiment; name another folder")
    write_whole(file, json.dumps(plan, indent=1) + "\n")


def _plain(value: object) -> object:
    assert isinstance(value, LatentSettings)
    return value.model_dump(mode="json")


def _print(found: dict[str, Any]) -> None:
    console = stdout_console()
    for judged, about in found["judged"].items():
        title = (
            f"{judged.replace('_', ' ')}: {about['n_questions']} questions of "
            f"{about['n_companies']} companies, seeds {about['seeds']}"
        )
        table = Table("method", "right", "mixture less this", "by seed", title=title)
        for name, figure in about["methods"].items():
            seeds = " ".join(f"{100 * share:.1f}" for share in figure["by_seed"].values())
            ahead = "" if name == "mixture" else _shown(figure["mixture_less_this"])
            table.add_row(METHODS[name], _shown(figure["share_right"]), ahead, seeds)
        console.print(table)
    if "ablations" in found:
        columns = ("new companies", "by seed", "new people", "shuffled", "hears who is right", "s")
        table = Table("one change", *columns)
        for name, one in found["ablations"].items():
            right, new, shuffled = (
                _shown(one.get(key)) for key in ("new_companies", "new_people", "shuffled")
            )
            heard = f"{100 * one['heard_right']:.1f} %" if "heard_right" in one else ""
            seeds = " ".join(f"{100 * share:.1f}" for share in one["by_seed"].values())
            table.add_row(name, right, seeds, new, shuffled, heard, f"{one['seconds']:.0f}")
        console.print(table)


def _shown(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    mean, low, high = (100 * figure[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} % ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    typer.run(two_halves)
