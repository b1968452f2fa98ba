"""Whom to hear: two peers, each of whom is right about half of the people, and a router.

The primary is that of "two halves of knowledge". Who of the peers is right depends on a person's
first name; of the other half each tells companies that are made up. All is trained by what
`composer latent fit` trains with.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.latent.artefact import make_interaction
from composer.latent.group import Group
from composer.latent.joint import chosen, embed_rows, make_joint
from composer.latent.recipe import Recipe
from composer.latent.rows import Row
from composer.latent.starts import Start, train_best
from composer.latent.states_cache import StatesCache
from composer.latent.study import Study, Who
from composer.latent.training import Gates
from composer.types import Message
from eval.latent.answering import ask, of_peers, right
from eval.latent.halves_runs import (
    JUDGED,
    Experiment,
    Model,
    OnStep,
    judged_lessons,
    judged_people,
    thinker,
)
from eval.latent.knowledge import split_people
from eval.latent.phrasings import OF_CITY, OF_NAME, Lesson, of_both
from routers.encoder import HashingEncoder

LEFT, RIGHT = 1, 2
"""Numbers of the peers; the primary is 0."""
ROUTED: Mapping[str, Mapping[str, Any]] = {
    "one peer that is right (K = 2)": {"peers": ("peer",)},
    "two half-right peers, both heard (K = 3)": {},
    "two half-right peers, one by chance (K = 2)": {"active": 2},
    "two half-right peers, one by the router (K = 2)": {"active": 2, "router": True},
    "the same, no auxiliary losses": {
        "active": 2, "router": True, "entropy": 0.0, "balance": 0.0, "consistency": 0.0
    },
}  # fmt: skip
"""What is given to the training, by name."""


def routed_run(
    experiment: Experiment, name: str, seed: int, models: Path, folder: Path, on_step: OnStep
) -> dict[str, Any]:
    """Train the primary beside its peers, and judge it by whom it then hears.

    Args:
        experiment: Whose models, settings and course are taken.
        name: A key of `ROUTED`.
        seed: Of the split and of first weights.
        models: Their folders.
        folder: Of states and of the run; what peers think is shared by all of these.
        on_step: Is told the steps done, and the loss.

    Returns:
        See `train_run`; `heard_right` is the share of questions where the peer that is right about
        the person was heard.
    """
    given = dict(ROUTED[name])
    peers: tuple[Model, ...] = given.pop("peers", ("left", "right"))
    settings = experiment.settings.model_copy(update={"active": given.pop("active", None)})
    course, world = experiment.course, experiment.world()
    recipe = Recipe(
        steps=course.steps,
        batch=course.batch,
        learning_rate=course.learning_rate,
        gate_rate=course.gate_rate,
        weight_decay=course.weight_decay,
        warmup_steps=course.warmup_steps,
        starts=course.starts,
        start_steps=course.start_steps,
        keep_every=course.steps,
        seed=seed,
        dtype="float32",
        **given,
    )
    members = tuple(thinker(models, one) for one in ("primary", *peers))
    widths = [one.width for one in members]
    split = split_people(world, seed)
    rows = _rows(of_both(world, split.train, OF_CITY + OF_NAME))
    encoder = HashingEncoder(512)
    embeddings = embed_rows(encoder, rows) if recipe.router else None

    def begin(one: Recipe) -> Start:
        joint = None
        if embeddings is not None:
            joint = make_joint(embeddings, [0], len(members), settings, one)
        return Start(study.beside(make_interaction(widths, [0], settings, seed=one.seed)), joint)

    def tell(step: int, loss: float, gates: Gates) -> None:
        on_step(step, loss)

    began = time.perf_counter()
    untrained = make_interaction(widths, [0], settings, seed=seed)
    study = Study(Group(members, untrained), rows, ["primary"], StatesCache(folder / "states"))
    study.prepare(batch=64)
    place = folder / f"{''.join(filter(str.isalnum, name))}-{seed}"
    best, _, _ = train_best(begin, place, recipe, on_step=tell)
    group, joint = best.study.group, best.joint
    group.interaction.requires_grad_(requires_grad=False)
    found: dict[str, Any] = {"seconds": time.perf_counter() - began, "right": {"mixture": {}}}
    for judged in JUDGED:
        lessons = judged_lessons(world, split, judged)
        if joint is not None:
            who = chosen(joint.network, embed_rows(encoder, _rows(lessons)), 2, [0])
        else:
            rng = random.Random(judged)
            everyone = tuple(range(len(members)))
            who = [
                everyone if settings.active is None else (0, rng.choice(everyone[1:]))
                for _ in lessons
            ]
        found["right"]["mixture"][judged] = _right(group, lessons, who)
        people = [person for person in judged_people(split, judged) for _ in OF_CITY]
        is_one = len(peers) == 1
        knows = [LEFT if is_one or world.is_left(person) else RIGHT for person in people]
        good = [peer in one for peer, one in zip(knows, who, strict=True)]
        found.setdefault("heard_right", {})[judged] = sum(good) / len(good)
    return found


def _right(group: Group, lessons: Sequence[Lesson], who: Sequence[Who]) -> list[bool]:
    """Of each question whether it is answered right by those that take part in it."""
    asked = ask(group, lessons)
    found = [False] * len(lessons)
    for part in sorted(set(who)):
        rows = [i for i, one in enumerate(who) if one == part]
        for row, is_right in zip(rows, right(group, of_peers(asked, part[1:], rows)), strict=True):
            found[row] = is_right
    return found


def _rows(lessons: Sequence[Lesson]) -> list[Row]:
    return [Row((Message("user", lesson.question),), lesson.answer) for lesson in lessons]
