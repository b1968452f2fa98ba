"""The runs of "two halves of knowledge": each trains or asks, and says what was right."""

# peft and torch are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import peft
import torch

from composer.latent.artefact import make_interaction
from composer.latent.group import Group
from composer.latent.members import Thinker, load_thinker
from composer.latent.settings import LatentSettings
from composer.types import Member
from eval.latent.answering import Control, ask, right, say
from eval.latent.knowledge import Size, Split, World, make_world, split_people
from eval.latent.learning import Course, learn, n_trained
from eval.latent.phrasings import (
    BLANKS,
    OF_CITY,
    OF_NAME,
    Lesson,
    lesson_words,
    of_both,
    of_companies,
    of_people,
)
from eval.latent.small_models import (
    PIECES,
    Shape,
    piece_tokenizer,
    teach,
    train_model,
    word_tokenizer,
)

Model = Literal["primary", "permuted", "peer", "left", "right"]
"""Who knows the cities; the same facts permuted; who knows the employers; those of half of the
people, and of the other half."""
Training = Literal["mixture", "permuted", "itself", "adapter"]
"""Primary and peer; the primary of permuted facts and the peer; the primary and itself as its peer;
a LoRA adapter on the primary alone."""
JUDGED = ("new_companies", "new_people")
RANK = 8
"""Of the adapter: 71 thousand numbers, beside the interaction's 74 thousand."""
ANSWER_TOKENS = 8
OnStep = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that the results depend on."""

    size: Size = field(default_factory=Size)
    primary: Shape = field(default_factory=lambda: Shape("qwen2", 3, 128, steps=1500))
    peer: Shape = field(
        default_factory=lambda: Shape("llama", 3, 128, steps=1600, learning_rate=2e-3)
    )
    other: Shape = field(
        default_factory=lambda: Shape("gemma3_text", 3, 128, steps=1600, learning_rate=2e-3)
    )
    """Of a second peer."""
    settings: LatentSettings = field(
        default_factory=lambda: LatentSettings(levels=1, insertion="before", think_tokens=8)
    )
    course: Course = field(default_factory=Course)
    world_seed: int = 0

    def shape(self, model: Model) -> Shape:
        """A model's."""
        shapes = {"peer": self.peer, "left": self.peer, "right": self.other}
        return shapes.get(model, self.primary)

    def world(self) -> World:
        """Its facts."""
        return make_world(self.size, self.world_seed)


def make_model(experiment: Experiment, name: Model, folder: Path, on_step: OnStep) -> None:
    """Train one of the models, unless it is there; its folder is whole or not there."""
    if folder.is_dir():
        return
    world, rng = experiment.world(), random.Random(f"lessons {name}")
    shape = experiment.shape(name)
    cities = world.permuted(1) if name == "permuted" else world.cities
    is_peer = name not in ("primary", "permuted")
    employers = world.employers if name == "peer" else world.half_true(left=name == "left")
    people = list(world.employers)

    def lessons(step: int) -> list[Lesson]:
        if is_peer:
            return of_people(employers, shape.batch, rng)
        return of_companies(cities, people, shape.batch, rng)

    if is_peer:
        some = of_people(employers, 20_000, random.Random("pieces"))
        pieces = PIECES // 2 if name == "right" else PIECES
        tokenizer = piece_tokenizer([f"{one.question} {one.answer}" for one in some], pieces)
    else:
        tokenizer = word_tokenizer([*world.words, *lesson_words()])
    new = folder.with_name(f"{folder.name}.new")
    n_steps = iter(range(1, shape.steps + 1))
    train_model(
        new,
        shape,
        tokenizer,
        lessons,
        experiment.world_seed,
        lambda loss: on_step(next(n_steps), loss),
    )
    new.rename(folder)


def train_run(
    experiment: Experiment, which: Training, seed: int, models: Path, on_step: OnStep
) -> dict[str, Any]:
    """Train on people and companies of the split's train, and judge on others.

    Returns:
        `right` by method and by what is judged on, `seconds`, and `n_trained` numbers.
    """
    world = experiment.world()
    split = split_people(world, seed)
    if which == "adapter":
        return _adapter_run(experiment, world, split, seed, models, on_step)
    primary = thinker(models, "permuted" if which == "permuted" else "primary")
    peer = primary if which == "itself" else thinker(models, "peer")
    starts = [
        Group(
            (primary, peer),
            make_interaction(
                [primary.width, peer.width],
                [0],
                experiment.settings,
                seed=seed * experiment.course.starts + number,
            ),
        )
        for number in range(experiment.course.starts)
    ]
    began = time.perf_counter()
    asked = ask(starts[0], of_both(world, split.train, OF_CITY + OF_NAME))
    group = learn(starts, asked, experiment.course, seed, on_step)
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - began,
        "n_trained": n_trained(group),
        "n_lessons": len(asked),
    }
    controls: tuple[Control | None, ...] = (
        (None, "shuffled", "zero") if which == "mixture" else (None,)
    )
    for judged in JUDGED:
        new = ask(group, judged_lessons(world, split, judged))
        for control in controls:
            name = which if control is None else control
            found.setdefault("right", {}).setdefault(name, {})[judged] = right(group, new, control)
    return found


def ask_run(experiment: Experiment, seed: int, models: Path) -> dict[str, Any]:
    """Ask the models by themselves, and one with what the other has said."""
    world = experiment.world()
    split = split_people(world, seed)
    primary, peer = thinker(models, "primary"), thinker(models, "peer")
    found: dict[str, Any] = {"right": {}, "seconds": {}, "tokens": {}}
    for judged in JUDGED:
        lessons = judged_lessons(world, split, judged)
        questions = [lesson.question for lesson in lessons]
        for name in ("primary alone", "peer alone", "synthesis"):
            began, n_tokens, told = time.perf_counter(), 0, questions
            if name == "synthesis":
                said, n_tokens = say(peer, questions, ANSWER_TOKENS)
                told = [q.replace(BLANKS, c) for q, c in zip(questions, said, strict=True)]
            answers, n_more = say(peer if name == "peer alone" else primary, told, ANSWER_TOKENS)
            found["right"].setdefault(name, {})[judged] = _judged(answers, lessons)
            if judged == JUDGED[0]:
                found["seconds"][name] = (time.perf_counter() - began) / len(questions)
                found["tokens"][name] = (n_tokens + n_more) / len(questions)
    return found


def judged_people(split: Split, judged: str) -> tuple[str, ...]:
    """Whose questions are judged on."""
    return split.new_companies if judged == "new_companies" else split.new_people


def judged_lessons(world: World, split: Split, judged: str) -> list[Lesson]:
    """What is judged on: questions that take both halves."""
    return of_both(world, judged_people(split, judged), OF_CITY)


def thinker(models: Path, name: Model) -> Thinker:
    """One of the models, loaded."""
    folder = str(models / name)
    return load_thinker(Member(name, source=folder, model_path=folder), dtype=torch.float32)


def _adapter_run(
    experiment: Experiment, world: World, split: Split, seed: int, models: Path, on_step: OnStep
) -> dict[str, Any]:
    """The primary with a LoRA adapter, taught the same rows for the steps of all starts."""
    primary = thinker(models, "primary")
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    network: Any = peft.get_peft_model(copy.deepcopy(primary.network), config)
    course, rng = experiment.course, random.Random(seed)
    lessons = of_both(world, split.train, OF_CITY + OF_NAME)
    numbers = iter(range(1, course.all_steps + 1))
    began = time.perf_counter()
    teach(
        network,
        primary.tokenizer,
        replace(
            experiment.primary,
            steps=course.all_steps,
            batch=course.batch,
            learning_rate=course.learning_rate,
            weight_decay=course.weight_decay,
        ),
        lambda step: rng.sample(lessons, course.batch),
        lambda loss: on_step(next(numbers), loss),
    )
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - began,
        "n_trained": sum(w.numel() for w in network.parameters() if w.requires_grad),
        "n_lessons": len(lessons),
        "right": {"adapter": {}},
    }
    adapted = replace(primary, network=network.merge_and_unload().eval())
    for judged in JUDGED:
        asked = judged_lessons(world, split, judged)
        answers, _ = say(adapted, [lesson.question for lesson in asked], ANSWER_TOKENS)
        found["right"]["adapter"][judged] = _judged(answers, asked)
    return found


def _judged(answers: Sequence[str], lessons: Sequence[Lesson]) -> list[bool]:
    return [answer == lesson.answer for answer, lesson in zip(answers, lessons, strict=True)]
