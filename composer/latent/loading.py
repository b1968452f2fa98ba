"""A group's engine, loaded: its experts, what was trained for them, and its arguments."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from composer.errors import ConfigError
from composer.latent.artefact import DTYPES, check_identities, load_interaction, read_artefact
from composer.latent.engine import LatentEngine
from composer.latent.group import Group
from composer.latent.identity import weights_identity
from composer.latent.members import load_thinker
from composer.suggest import suggest
from composer.types import EngineSpec, Member


class LatentArgs(BaseModel):
    """A group's `engine_args`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the experts' weights and states; the interaction computes in float32."""
    max_num_seqs: Annotated[int, Field(strict=True, ge=1)] = 32
    """Texts written at one time."""
    max_model_len: Annotated[int, Field(strict=True, ge=2)] | None = None
    """Tokens of the primary, prompt and text. Left out: as many as it was made for."""
    device: str = "cpu"
    """Torch's name of where the experts compute; not measured on a GPU."""
    devices: Mapping[str, str] = {}
    """The same of single members. The interaction computes where the first member does."""


def load_engine(spec: EngineSpec) -> LatentEngine:
    """Load a group.

    Args:
        spec: Resolved: `source` is the folder of what was trained, members have folders.

    Raises:
        ConfigError: What was trained is for other experts or other weights, an argument is wrong,
            or a model is of no known family.
    """
    name = spec.experts[0]
    args = read_args(name, spec)
    assert spec.source is not None, "a group without anything trained"
    folder = Path(spec.source)
    artefact = read_artefact(folder)
    by_name = {member.expert: member for member in spec.members}
    if set(artefact.names) != set(by_name):
        trained = list(artefact.names)
        raise ConfigError(
            f"expert {name!r}: {str(folder)!r} was trained for {trained}, and its members are "
            f"{list(by_name)}; name those, or fit anew with `composer latent fit`"
        )
    check_identities(artefact, {m.expert: _identity(m) for m in spec.members}, folder)
    thinkers = tuple(
        load_thinker(
            by_name[expert],
            dtype=DTYPES[args.dtype],
            device=args.devices.get(expert, args.device),
        )
        for expert in artefact.names
    )
    interaction = load_interaction(folder, artefact)
    # Members are named in the order of the file; the first that may write is the one that does.
    first = [member.expert for member in spec.members if member.expert in artefact.primaries]
    writer = next(thinker for thinker in thinkers if thinker.name == first[0])
    group = Group(
        thinkers, interaction.eval().requires_grad_(requires_grad=False).to(writer.device)
    )
    return LatentEngine(group, first, max_texts=args.max_num_seqs, context=args.max_model_len)


def _identity(member: Member) -> str:
    assert member.model_path is not None, "the source is not resolved"
    adapter = None if member.adapter is None else Path(member.adapter)
    return weights_identity(Path(member.model_path), adapter)


def read_args(expert: str, spec: EngineSpec) -> LatentArgs:
    """A group's arguments.

    Raises:
        ConfigError: One is unknown, or cannot have its value.
    """
    if unknown := sorted(set(spec.engine_args) - set(LatentArgs.model_fields)):
        raise ConfigError(
            f"expert {expert!r}: a latent engine has no argument {unknown[0]!r}; "
            f"{suggest(unknown[0], LatentArgs.model_fields)}"
        )
    try:
        args = LatentArgs.model_validate(dict(spec.engine_args))
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ConfigError(
            f"expert {expert!r}: engine_args.{where}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}"
        ) from exc
    names = {member.expert for member in spec.members}
    if strangers := sorted(set(args.devices) - names):
        raise ConfigError(
            f"expert {expert!r}: engine_args.devices names {strangers[0]!r}, no member; "
            f"{suggest(strangers[0], names)}"
        )
    return args
