"""Several first weights, trained for a while each: the best of them is trained to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from composer.errors import ConfigError
from composer.latent.joint import JointRouter
from composer.latent.recipe import Recipe
from composer.latent.study import Study
from composer.latent.training import STARTS, STATE, OnStep, Step, train


@dataclass(frozen=True, slots=True)
class Start:
    """What is trained from its own first weights."""

    study: Study
    joint: JointRouter | None


def train_best(
    begin: Callable[[Recipe], Start],
    folder: Path,
    recipe: Recipe,
    *,
    on_step: OnStep = lambda step, loss, gates: None,
) -> tuple[Start, int, list[Step]]:
    """Train from several seeds for `start_steps`, and go on with the one that has learned most.

    An interaction begins on a plateau, on which little is heard of peers, and when it leaves it
    depends on its first weights. The loss of the training rows tells; nothing else is looked at.
    Like `train` it goes on where an earlier run stopped.

    Args:
        begin: Makes what is trained; the recipe given has the seed of that start.
        folder: Of the states of all.
        recipe: How; its seed is the first, those of the other starts follow it.
        on_step: Called after each step, with the steps of all starts counted.

    Returns:
        What was trained to its end, its seed, and its steps.

    Raises:
        ConfigError: As `train`; or what was kept is of one start and there are to be several, or
            the other way round.
    """
    other = folder / (STARTS if recipe.starts == 1 else STATE)
    if other.exists():
        raise ConfigError(
            f"{other}: was begun with another number of starts than {recipe.starts}; give that, or "
            "remove it"
        )
    if recipe.starts == 1:
        start = begin(recipe)
        steps = train(start.study, folder, recipe, joint=start.joint, on_step=on_step)
        return start, recipe.seed, steps
    recipes = [replace(recipe, seed=recipe.seed + number) for number in range(recipe.starts)]
    folders = [folder / STARTS / str(one.seed) for one in recipes]
    begun = [begin(one) for one in recipes]

    def trained(number: int, before: int, until: int | None) -> list[Step]:
        """The steps of a start, where those of others that went before are counted as well."""
        return train(
            begun[number].study,
            folders[number],
            recipes[number],
            joint=begun[number].joint,
            on_step=lambda step, loss, gates: on_step(before + step, loss, gates),
            until=until,
        )

    first = [
        trained(number, number * recipe.start_steps, recipe.start_steps)[: recipe.start_steps]
        for number in range(recipe.starts)
    ]
    best = min(range(recipe.starts), key=lambda number: lately([s.loss for s in first[number]]))
    steps = trained(best, (recipe.starts - 1) * recipe.start_steps, None)
    return begun[best], recipes[best].seed, steps


def lately(losses: Sequence[float]) -> float:
    """Mean of the last quarter: one step's loss is that of its few rows."""
    return fmean(losses[-max(1, len(losses) // 4) :])
