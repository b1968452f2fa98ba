"""Groups of tiny experts, and engines of them, for tests."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from composer.latent.artefact import Artefact, describe_members, save_artefact
from composer.latent.engine import LatentEngine
from composer.latent.group import Group
from composer.latent.interaction import Interaction
from composer.latent.members import Thinker, load_thinker
from composer.latent.settings import LatentSettings
from composer.types import (
    DEFAULT_SAMPLING,
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Message,
    Request,
    Sampling,
)
from tests.latent_models import Family, save_tiny_model, tiny_member

PROMPTS = (
    "what is the capital of norway",
    "red",
    "one two three and the answer is",
    "What is 6 x 7? Answer with a number, and say nothing else at all, please.",
    "the capital of norway is oslo",
    "äöü - \N{GRINNING FACE} - green",
    "blue green red blue green red blue green red blue green red",
    "is the answer three",
)


def thinkers(folder: Path, families: Sequence[Family], **sizes: Any) -> tuple[Thinker, ...]:
    """One expert a family, in float32, called by it; the first has the fewest layers."""
    return tuple(
        load_thinker(
            tiny_member(family, save_tiny_model(folder / family, family, 3 + i, **sizes)),
            dtype=torch.float32,
        )
        for i, family in enumerate(families)
    )


def group(
    members: Sequence[Thinker], *, opened: float = 0.0, seed: int = 0, **settings: Any
) -> Group:
    """Their group; every expert may write, and gates are opened so far."""
    torch.manual_seed(seed)
    widths = [thinker.width for thinker in members]
    small = {"width": 16, "heads": 2} | settings
    interaction = Interaction(widths, range(len(widths)), LatentSettings.model_validate(small))
    for name, parameter in interaction.named_parameters():
        if ".gate." in name:
            parameter.data.fill_(opened)
        elif opened and ".up." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return Group(tuple(members), interaction)


def save_group(folder: Path, families: Sequence[Family], *, opened: float = 0.4) -> EngineSpec:
    """Models and what was trained for their group, on disk; its engine, resolved."""
    members = thinkers(folder, families)
    made = group(members, opened=opened)
    named = [tiny_member(thinker.name, folder / thinker.name) for thinker in members]
    artefact = Artefact(
        describe_members(named, members), (members[0].name,), made.settings, "float32"
    )
    first = made.interaction
    interaction = Interaction([t.width for t in members], [0], made.settings)
    interaction.load_state_dict(
        {n: t for n, t in first.state_dict().items() if n in interaction.state_dict()}
    )
    save_artefact(folder / "trained", artefact, interaction)
    return EngineSpec(
        "both",
        "latent",
        "inline",
        ("both",),
        source=str(folder / "trained"),
        model_path=named[0].model_path,
        members=tuple(named),
    )


def engine(made: Group, **options: Any) -> LatentEngine:
    """Their engine; the first writes."""
    return LatentEngine(made, [thinker.name for thinker in made.thinkers], **options)


def ask(number: int, text: str, **said: Any) -> Request:
    """A request to the group, greedy unless told otherwise."""
    names = {"logprobs", "peers", "continuation", "schema", "mix", "weights"}
    own = {name: said.pop(name) for name in names & said.keys()}
    sampling = Sampling(**said).over(DEFAULT_SAMPLING)
    return Request(f"q/{number}", "both", (Message("user", text),), sampling, final=True, **own)


def write(made: LatentEngine, *requests: Request) -> tuple[list[Completion], dict[str, str]]:
    """What the engine makes of requests that come together, and what it streamed of each."""
    done: dict[str, Completion] = {}
    streamed: dict[str, str] = {}
    for request in requests:
        refused = made.add(request, stream=True)
        assert refused is None, refused
    while len(done) < len(requests):
        for event in made.step():
            if isinstance(event, Delta):
                streamed[event.request_id] = streamed.get(event.request_id, "") + event.text
            else:
                assert not isinstance(event, Failure)
                done[event.request_id] = event
    return [done[request.id] for request in requests], streamed
