"""What is trained for the comparison on the starter's models, and what is measured of it."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from composer.appending import write_whole
from composer.backends.sources import resolve_model
from composer.experts import load_experts
from composer.latent.artefact import load_interaction, make_interaction, read_artefact
from composer.latent.fitting import fit_group
from composer.latent.group import Group
from composer.latent.members import Thinker, load_thinker
from composer.latent.recipe import Recipe
from composer.latent.rows import Row
from composer.latent.settings import LatentSettings
from composer.latent.states_cache import StatesCache
from composer.latent.study import Study
from composer.latent.training import rows_at
from composer.types import Member
from eval.latent.starter_rows import Question
from eval.latent.systems import Heckled, alone, answers, is_right, nats
from eval.starter.packing import Example
from eval.starter.recipe import Recipe as AdapterRecipe
from eval.starter.training import train_adapter

PRIMARY, PEER = "smol", "gemma"
RANK = 2
"""Of the adapter on the primary alone: 0.61 million parameters, beside the interaction's 0.66."""

Measured = Mapping[str, list[float]]
"""`right` of each question that can be scored, and `nats` a token of each question's answer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two models of the starter pool, as experts.yaml names them."""

    members: tuple[Member, Member]
    thinkers: tuple[Thinker, Thinker]


def load_pair(experts: Path) -> Pair:
    """Both models, frozen, in bfloat16."""
    registry = load_experts(experts)
    named: list[Member] = []
    for name in (PRIMARY, PEER):
        expert = registry.experts[name]
        assert expert.source is not None, "a starter model has weights"
        named.append(Member(name, expert.source, chat_template=expert.chat_template))
    found = [replace(m, model_path=str(resolve_model(m.source))) for m in named]
    one, two = (load_thinker(member) for member in found)
    return Pair((found[0], found[1]), (one, two))


def run_alone(pair: Pair, questions: Sequence[Question], cache: StatesCache) -> Measured:
    """The primary by itself, untrained."""
    group = _untrained(pair.thinkers)
    return _alone(group, questions, cache)


def run_group(
    pair: Pair,
    rows: Sequence[Row],
    questions: Sequence[Question],
    folder: Path,
    recipe: Recipe,
    on_step: Callable[[int, int], None],
) -> dict[str, Measured]:
    """The group trained, or taken up, and its controls, which are of test time only."""
    states = folder.parent / "states"
    fit_group(
        pair.members,
        pair.thinkers,
        rows,
        folder,
        LatentSettings(),
        recipe,
        states=states,
        on_step=lambda step, loss, gates: on_step(step, recipe.steps),
    )
    interaction = load_interaction(folder, read_artefact(folder)).eval()
    interaction.requires_grad_(requires_grad=False)
    group = Group(pair.thinkers, interaction)
    cache = StatesCache(states)
    groups = {
        "mot": group,
        "mot, peers shuffled": Heckled(pair.thinkers, interaction, "shuffled"),
        "mot, peers zero": Heckled(pair.thinkers, interaction, "zero"),
    }
    study = _study(group, questions, cache)
    controls = {"mot": None, "mot, peers shuffled": "shuffled", "mot, peers zero": "zero"}
    return {
        name: {
            "right": _scored(questions, answers(one, PRIMARY, _askable(questions))),
            "nats": nats(study, controls[name]),  # pyright: ignore[reportArgumentType]
        }
        for name, one in groups.items()
    }


def run_adapter(
    pair: Pair,
    rows: Sequence[Row],
    questions: Sequence[Question],
    folder: Path,
    recipe: Recipe,
    cache: StatesCache,
    on_step: Callable[[int, int], None],
) -> Measured:
    """A LoRA adapter of about as many parameters on the primary, trained on the same rows."""
    model = Path(pair.members[0].model_path or "")
    thinker = pair.thinkers[0]
    end = min(thinker.ends)
    examples: list[Example] = []
    # In the order in which the group is taught them.
    for row in [rows[i] for step in range(recipe.steps) for i in rows_at(len(rows), recipe, step)]:
        prompt = thinker.tokenizer.encode(row.messages)
        answer = thinker.tokenizer.encode_text(row.answer)
        examples.append(Example((*prompt, *answer, end), len(prompt)))
    train_adapter(
        examples,
        model,
        folder,
        AdapterRecipe(
            steps=recipe.steps, batch=recipe.batch, rank=RANK, alpha=2 * RANK, seed=recipe.seed
        ),
        base=pair.members[0].source,
        on_step=lambda step, loss: on_step(step, recipe.steps),
    )
    adapted = load_thinker(replace(pair.members[0], adapter=str(folder)))
    return _alone(_untrained((adapted, pair.thinkers[1])), questions, cache)


def kept(file: Path, make: Callable[[], Mapping[str, Measured]]) -> Mapping[str, Measured]:
    """What a file has, or what is made and put there."""
    if not file.exists():
        write_whole(file, json.dumps(make()) + "\n")
    return json.loads(file.read_text("utf-8"))


def _alone(group: Group, questions: Sequence[Question], cache: StatesCache) -> Measured:
    said = alone(group.thinkers[0], _askable(questions))
    study = _study(group, questions, cache)
    return {"right": _scored(questions, said), "nats": nats(study, "alone")}


def _untrained(thinkers: tuple[Thinker, ...]) -> Group:
    interaction = make_interaction([t.width for t in thinkers], [0], LatentSettings())
    return Group(thinkers, interaction.requires_grad_(requires_grad=False))


def _study(group: Group, questions: Sequence[Question], cache: StatesCache) -> Study:
    with torch.no_grad():
        study = Study(group, [question.row for question in questions], [PRIMARY], cache)
        study.prepare()
    return study


def _askable(questions: Sequence[Question]) -> list[Question]:
    return [question for question in questions if question.answer_type is not None]


def _scored(questions: Sequence[Question], said: Sequence[str]) -> list[float]:
    pairs = zip(_askable(questions), said, strict=True)
    return [float(is_right(question, text)) for question, text in pairs]
