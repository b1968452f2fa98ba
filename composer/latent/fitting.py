"""A group fitted on rows, from loaded experts to a folder that an engine is made of."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from composer.appending import AppendedFile, write_whole
from composer.errors import ConfigError
from composer.latent.answer_loss import evaluate, mean_nats
from composer.latent.artefact import (
    ABOUT,
    DTYPES,
    TENSORS,
    Artefact,
    describe_members,
    make_interaction,
    read_artefact,
    save_artefact,
)
from composer.latent.group import Group
from composer.latent.interaction import Interaction
from composer.latent.joint import JointRouter, chosen, embed_rows, make_joint
from composer.latent.members import Thinker
from composer.latent.recipe import Recipe
from composer.latent.routing import ThoughtRouter
from composer.latent.rows import TRAIN, Row
from composer.latent.settings import LatentSettings, check_choice
from composer.latent.starts import Start, train_best
from composer.latent.states_cache import StatesCache
from composer.latent.study import OnRead, Study, Who
from composer.latent.training import STARTS, STATE, OnStep, Step, forget_run, run_settings
from composer.types import Member

if TYPE_CHECKING:
    from composer.protocols import Encoder

KeepRouter = Callable[[ThoughtRouter, Sequence[int], int], None]
"""Is given a router, numbers of those that may write, and how many take part."""

LOSSES, CHART, STATES, LOCK = "losses.json", "losses.svg", "states", "lock"
ROUTER = ("router.json", "arrays.npz", ".router.json", ".arrays.npz")
"""What `routers` keep a router in."""
OURS = {
    *(ABOUT, TENSORS, f"{TENSORS}.tmp", LOSSES, CHART, STATES, LOCK, STATE, f"{STATE}.new", STARTS),
    *ROUTER,
}
"""Whatever a run leaves in its folder, wherever it is ended."""


def fitted_before(folder: Path, run: Mapping[str, Any]) -> Artefact | None:
    """What the same run has saved in a folder; None: it is to be begun, or taken up.

    Args:
        folder: Of what is to be trained.
        run: What `run_settings` says of it.

    Raises:
        ConfigError: The folder holds something else, or what another run has saved.
    """
    if not folder.exists():
        return None
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - OURS:
        raise ConfigError(
            f"{folder}: holds something else than a group that was fitted; name another folder"
        )
    if not (folder / ABOUT).exists():
        return None
    found = read_artefact(folder)
    if (found.training or {}).get("run") != json.loads(json.dumps(dict(run))):
        raise ConfigError(f"{folder}: holds what was fitted otherwise; name another folder")
    return found


def fit_group(
    members: Sequence[Member],
    thinkers: Sequence[Thinker],
    rows: Sequence[Row],
    folder: Path,
    settings: LatentSettings,
    recipe: Recipe,
    *,
    primaries: Sequence[str] = (),
    states: Path | None = None,
    encoder: Encoder | None = None,
    keep_router: KeepRouter = lambda network, writers, k: None,
    on_read: OnRead = lambda name, done, total: None,
    on_step: OnStep = lambda step, loss, gates: None,
) -> tuple[Artefact, list[Step]]:
    """Train the interaction between experts, and save it; or go on where an earlier run stopped.

    Args:
        members: The experts as they were named.
        thinkers: The same, loaded.
        rows: What is learned from; those of another split than train are judged on at the end.
        folder: Of what is saved, and of the run's state.
        settings: Of the interaction.
        recipe: How.
        primaries: Names of those that may write; empty: the first expert.
        states: Where peers' states are kept; None: in the folder, until the end.
        encoder: Of queries, for a recipe with a router.
        keep_router: Called with the router once it is trained, before the group is saved.
        on_read: Called as peers read the rows.
        on_step: Called after each step.

    Raises:
        ConfigError: There is nothing to learn from, a row is too long, the run came to no number,
            what was kept of an earlier one is of another, or one is under way in the folder; or a
            router has nothing to choose.
    """
    learned = [row for row in rows if row.split == TRAIN]
    held_out = [row for row in rows if row.split != TRAIN]
    if not learned:
        raise ConfigError(f"no row to learn from: none has split {TRAIN!r}; name other rows")
    primaries = tuple(primaries) or (thinkers[0].name,)
    for thinker in thinkers:
        thinker.layers(settings.levels)
    names = [thinker.name for thinker in thinkers]
    numbers = [names.index(name) for name in primaries]
    cache = StatesCache(states or folder / STATES)
    embeddings = None
    if recipe.router:
        assert encoder is not None, "a router reads what an encoder makes of queries"
        check_choice(settings, len(thinkers), len(numbers))
        embeddings = embed_rows(encoder, learned)

    def untrained(seed: int) -> Interaction:
        widths = [thinker.width for thinker in thinkers]
        return make_interaction(widths, numbers, settings, seed=seed).to(
            thinkers[numbers[0]].device
        )

    def begin(one: Recipe) -> Start:
        joint = None
        if embeddings is not None:
            joint = make_joint(embeddings, numbers, len(thinkers), settings, one)
        return Start(study.beside(untrained(one.seed)), joint)

    with AppendedFile(folder / LOCK):
        group = Group(tuple(thinkers), untrained(recipe.seed))
        study = Study(group, learned, primaries, cache)
        judged = Study(group, held_out, primaries, cache)
        judged.prepare(on_read=on_read)
        study.prepare(on_read=on_read)
        best, seed, steps = train_best(begin, folder, recipe, on_step=on_step)
        interaction, joint = best.study.group.interaction, best.joint
        identities = {thinker.name: thinker.identity for thinker in thinkers}
        artefact = Artefact(describe_members(members, thinkers), primaries, settings)
        for weight in interaction.parameters():
            # What is judged is what is saved.
            weight.data = weight.data.to(DTYPES[artefact.dtype]).to(torch.float32)
        training = {
            "run": run_settings(recipe, settings, identities, primaries, learned),
            "n_rows": len(learned),
            "seed": seed,
            "loss": steps[-1].loss,
            "gates": dict(steps[-1].gates),
            "held_out": _judge(judged.beside(interaction), joint, encoder) if held_out else None,
        }
        if joint is not None:
            training["terms"] = steps[-1].terms
            joint.network.eval().requires_grad_(requires_grad=False)
            keep_router(joint.network, numbers, joint.k)
        artefact = replace(artefact, training=training)
        _save_losses(folder, steps)
        save_artefact(folder, artefact, interaction)
        forget_run(folder)
        shutil.rmtree(folder / STATES, ignore_errors=True)
        (folder / LOCK).unlink()
    return artefact, steps


def _judge(study: Study, joint: JointRouter | None, encoder: Encoder | None) -> dict[str, Any]:
    """Nats of an answer's token: of the primary alone, with its peers, and with those of others."""
    who: Sequence[Who] | None = None
    if joint is not None and encoder is not None:
        who = chosen(joint.network, embed_rows(encoder, study.rows), joint.k, joint.writers)
    found: dict[str, Any] = {
        "n_rows": len(study.rows),
        "alone": mean_nats(evaluate(study, control="alone", who=who)),
        "together": mean_nats(evaluate(study, who=who)),
    }
    if len(study.rows) > 1:
        found["shuffled"] = mean_nats(evaluate(study, control="shuffled", who=who))
    if who is not None:
        found["chosen"] = {
            "+".join(study.names[number] for number in one): n / len(who)
            for one, n in sorted(Counter(who).items())
        }
    return found


def _save_losses(folder: Path, steps: Sequence[Step]) -> None:
    gates = {name: [step.gates[name] for step in steps] for name in steps[-1].gates}
    told: dict[str, Any] = {"loss": [step.loss for step in steps], "gates": gates}
    if steps[-1].terms is not None:
        told["terms"] = [step.terms for step in steps]
    write_whole(folder / LOSSES, json.dumps(told) + "\n")
