"""Several first weights: which one is trained to its end, and how the whole goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from composer.errors import ConfigError
from composer.latent.artefact import make_interaction
from composer.latent.recipe import Recipe
from composer.latent.starts import Start, lately, train_best
from composer.latent.states_cache import StatesCache
from composer.latent.study import Study
from composer.latent.training import Gates, forget_run, has_run, train
from tests.composer.latent.groups import thinkers
from tests.composer.latent.test_training import RECIPE, Interruption, study

RECIPES = replace(RECIPE, starts=3, start_steps=3)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Rows that two experts have read."""
    pair = thinkers(tmp_path_factory.mktemp("models"), ("llama", "gemma"))
    return study(pair, StatesCache(tmp_path_factory.mktemp("states")))


def start(read: Study, recipe: Recipe) -> Start:
    """First weights of the recipe's seed."""
    group = read.group
    widths = [thinker.width for thinker in group.thinkers]
    return Start(read.beside(make_interaction(widths, [0], group.settings, seed=recipe.seed)), None)


def alone(read: Study, folder: Path, seed: int) -> list[float]:
    """Losses of a run from one seed."""
    recipe = replace(RECIPE, seed=seed)
    return [step.loss for step in train(start(read, recipe).study, folder, recipe)]


def test_the_start_that_lost_least_in_its_first_steps_goes_on_as_if_it_were_alone(
    read: Study, tmp_path: Path
) -> None:
    runs = {seed: alone(read, tmp_path / str(seed), seed) for seed in range(3)}

    best, seed, steps = train_best(lambda one: start(read, one), tmp_path / "all", RECIPES)

    assert seed == min(runs, key=lambda one: lately(runs[one][:3]))
    assert [step.loss for step in steps] == runs[seed]
    recipe = replace(RECIPE, seed=seed)
    whole = start(read, recipe).study
    train(whole, tmp_path / "whole", recipe)
    for one, other in zip(
        best.study.group.interaction.parameters(),
        whole.group.interaction.parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_one_start_is_a_run_as_ever(read: Study, tmp_path: Path) -> None:
    _, seed, steps = train_best(lambda one: start(read, one), tmp_path / "one", RECIPE)

    assert seed == RECIPE.seed
    assert [step.loss for step in steps] == alone(read, tmp_path / "two", RECIPE.seed)


@pytest.mark.parametrize("ended", [2, 4, 8, 11])
def test_it_goes_on_where_it_was_ended_in_whichever_start(
    read: Study, tmp_path: Path, ended: int
) -> None:
    told: list[int] = []

    def tell_until(last: int) -> Callable[[int, float, Gates], None]:
        def tell(step: int, loss: float, gates: Gates) -> None:
            told.append(step)
            if len(told) == last:
                raise Interruption

        return tell

    whole = train_best(
        lambda one: start(read, one), tmp_path / "whole", RECIPES, on_step=tell_until(0)
    )
    assert len(told) == RECIPES.all_steps == 12
    assert told[-1] == 12
    told.clear()
    with pytest.raises(Interruption):
        train_best(
            lambda one: start(read, one), tmp_path / "cut", RECIPES, on_step=tell_until(ended)
        )
    told.clear()
    again = train_best(
        lambda one: start(read, one), tmp_path / "cut", RECIPES, on_step=tell_until(0)
    )

    assert again[1:] == whole[1:]
    assert len(told) <= 12 - ended + RECIPE.keep_every
    assert has_run(tmp_path / "cut")
    forget_run(tmp_path / "cut")
    assert not has_run(tmp_path / "cut")


def test_starts_as_long_as_the_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'start_steps' is 6; fewer than 'steps' \(6\)"):
        replace(RECIPE, starts=2, start_steps=6)


@pytest.mark.parametrize("starts", [1, 2, 3])
def test_what_was_begun_with_another_number_of_starts_is_refused_and_kept(
    read: Study, tmp_path: Path, starts: int
) -> None:
    begun = replace(RECIPES, starts=2 if starts != 2 else 1)
    train_best(lambda one: start(read, one), tmp_path, begun)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(ConfigError, match="was begun with"):
        train_best(lambda one: start(read, one), tmp_path, replace(RECIPES, starts=starts))

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
