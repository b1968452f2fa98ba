"""Trains the interaction of a group: the loss is of the answers' tokens, the experts are frozen."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from composer.errors import ConfigError
from composer.latent.answer_loss import answer_nats
from composer.latent.joint import JointRouter, Terms
from composer.latent.recipe import Recipe
from composer.latent.rows import Row, rows_digest
from composer.latent.settings import LatentSettings
from composer.latent.study import Study, Who
from composer.latent.training_state import TrainingState

STATE, STARTS = "state", "starts"

Gates = Mapping[str, list[float]]
"""Of each primary, by its name, how far its gates are open, level by level."""
OnStep = Callable[[int, float, Gates], None]
"""Is told a step's number, from 1, its loss in nats a token, and the gates after it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run."""

    loss: float
    """Nats of an answer's token."""
    gates: Gates
    terms: Terms | None = None
    """What the router was taught; None: there is none."""


def run_settings(
    recipe: Recipe,
    settings: LatentSettings,
    identities: Mapping[str, str],
    primaries: Sequence[str],
    rows: Sequence[Row],
) -> dict[str, Any]:
    """All that the weights at the end depend on, as JSON values.

    Args:
        recipe: How.
        settings: Of the interaction.
        identities: Digests of the experts' weights by their names, in order.
        primaries: Names of those that may write.
        rows: What is learned from.
    """
    return {
        **asdict(recipe),
        **settings.model_dump(mode="json"),
        "experts": [list(pair) for pair in identities.items()],
        "primaries": list(primaries),
        "rows": rows_digest(rows),
    }


def train(
    study: Study,
    folder: Path,
    recipe: Recipe,
    *,
    joint: JointRouter | None = None,
    on_step: OnStep = lambda step, loss, gates: None,
    until: int | None = None,
) -> list[Step]:
    """Train the study's interaction in place, or go on where an earlier run stopped.

    On a CPU with as many threads the same weights come out, interrupted or not. The state stays in
    the folder at the end, until `forget_run`, so that nothing is lost before all is saved.

    Args:
        study: Prepared; its interaction is untrained, made from the recipe's seed.
        folder: Of the state; made if it is not there.
        recipe: How.
        joint: A router, untrained, that is trained along with it; None: there is none.
        on_step: Called after each step.
        until: The step to stop at, to be taken up later; None: the last.

    Returns:
        What came of each step, those of earlier runs included.

    Raises:
        ConfigError: What was kept of an earlier run is of another one, or broken; or the loss is no
            number any more: the state is then the last that was kept.
    """
    interaction = study.group.interaction.requires_grad_(requires_grad=True).train()
    weights = dict(interaction.named_parameters())
    gates = [weight for name, weight in weights.items() if ".gate." in name]
    others = [weight for name, weight in weights.items() if ".gate." not in name]
    trained = [
        {"params": others, "weight_decay": recipe.weight_decay},
        {"params": gates, "weight_decay": 0.0},
    ]
    of_router = {} if joint is None else dict(joint.network.named_parameters())
    if of_router:
        trained.append({"params": list(of_router.values()), "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(trained)
    identities = {thinker.name: thinker.identity for thinker in study.group.thinkers}
    begun = run_settings(recipe, study.group.settings, identities, study.primaries, study.rows)
    kept = weights | {f"router.{name}": weight for name, weight in of_router.items()}
    state = TrainingState(folder / STATE, begun, kept, optimiser)
    done = [Step(**step) for step in state.take_up()]
    n_kept, last = len(done), recipe.steps if until is None else until
    for step in range(n_kept, last):
        # Without a router the last rate is nobody's.
        for group, rate in zip(optimiser.param_groups, recipe.rates_at(step), strict=False):
            group["lr"] = rate
        loss, terms = _backward(study, recipe, step, joint, done[-1].terms if done else None)
        norm = sum(
            float(torch.nn.utils.clip_grad_norm_(list(some.values()), recipe.clip))
            for some in (weights, of_router)
        )
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise _diverged(loss, step + 1, recipe, folder / STATE, n_kept)
        optimiser.step()
        optimiser.zero_grad()
        done.append(Step(loss, _open_gates(study), terms))
        on_step(step + 1, loss, done[-1].gates)
        if (step + 1) % recipe.keep_every == 0 or step + 1 == last:
            n_kept = len(done)
            state.keep([asdict(one) for one in done])
    interaction.eval()
    return done


def has_run(folder: Path) -> bool:
    """Whether there is the state of a run."""
    return (folder / STATE).is_dir() or (folder / STARTS).is_dir()


def forget_run(folder: Path) -> None:
    """Remove the state of a run, all of which is saved."""
    for name in (STATE, STARTS):
        shutil.rmtree(folder / name, ignore_errors=True)


def _backward(
    study: Study, recipe: Recipe, step: int, joint: JointRouter | None, before: Terms | None
) -> tuple[float, Terms | None]:
    """Add a step's gradients; its mean loss, and what the router was taught."""
    rows = rows_at(len(study.rows), recipe, step)
    drawn = None if joint is None else joint.draw(rows, step)
    who = drawn.who if drawn else [study.who(row, step, recipe.seed) for row in rows]
    n_tokens = sum(
        len(study.lesson(row, one[0]).targets) for row, one in zip(rows, who, strict=True)
    )
    total, losses = 0.0, [0.0] * len(rows)
    for part, places in _parts(who, recipe):
        weights = None if drawn is None else drawn.weights[places]
        nats = answer_nats(study, part, [rows[place] for place in places], weights=weights)
        loss = torch.cat(nats).sum() / n_tokens
        loss.backward()
        total += loss.item()
        for place, of_row in zip(places, nats, strict=True):
            losses[place] = of_row.mean().item()
    if joint is None or drawn is None or not math.isfinite(total):
        return total, None
    return total, joint.backward(drawn, losses, before)


def _parts(who: Sequence[Who], recipe: Recipe) -> list[tuple[Who, list[int]]]:
    """Places in the step of rows that are read together, and by whom."""
    apart: dict[Who, list[int]] = {}
    for place, one in enumerate(who):
        apart.setdefault(one, []).append(place)
    most = -(-recipe.batch // recipe.accumulate)
    return [
        (one, places[begin : begin + most])
        for one, places in apart.items()
        for begin in range(0, len(places), most)
    ]


def rows_at(n_rows: int, recipe: Recipe, step: int) -> list[int]:
    """Numbers of a step's rows: all rows in an order of their own, and then all in another one."""
    begin = step * recipe.batch
    places = range(begin, begin + recipe.batch)
    orders: dict[int, list[int]] = {}
    for time in {place // n_rows for place in places}:
        orders[time] = list(range(n_rows))
        Random(f"{recipe.seed}/order/{time}").shuffle(orders[time])
    return [orders[place // n_rows][place % n_rows] for place in places]


def _open_gates(study: Study) -> Gates:
    with torch.no_grad():
        gates = study.group.interaction.gates()
    return {study.names[int(number)]: values for number, values in gates.items()}


def _diverged(loss: float, step: int, recipe: Recipe, state: Path, n_kept: int) -> ConfigError:
    what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradients are no numbers"
    kept = f"{state} is as after step {n_kept}" if n_kept else "no step was kept"
    return ConfigError(
        f"{what} at step {step}; {kept}. Lower learning_rate ({recipe.learning_rate}) or gate_rate "
        f"({recipe.gate_rate}), and begin in another folder"
    )
