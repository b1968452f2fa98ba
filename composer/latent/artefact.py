"""What was trained for a group, in a folder: its members, its shape, and the interaction's weights.

    latent.json          members in order, primaries, settings, how it was trained
    latent.safetensors   the interaction's parameters

latent.json is written last and holds the digest of the other, so that what is cut short is noticed.
"""

# torch and safetensors are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from composer.appending import unwritable, write_whole
from composer.errors import ConfigError
from composer.latent.interaction import Interaction
from composer.latent.members import Thinker
from composer.latent.settings import LatentSettings
from composer.types import Member

ABOUT, TENSORS = "latent.json", "latent.safetensors"
VERSION = 1
"""Of the form of the two files."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class TrainedMember:
    """One expert that the interaction was trained beside."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    source: str
    """Its model as it was named."""
    adapter: str | None
    """Its LoRA adapter as it was named."""
    model_type: str
    """Transformers' name of its architecture."""
    width: int
    """Length h of a state."""
    depth: int
    """Decoder layers."""
    identity: str
    """Digest of its weights."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What latent.json says."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    members: tuple[TrainedMember, ...]
    """In the order of the interaction's numbers."""
    primaries: tuple[str, ...]
    """Names of those that may write."""
    settings: LatentSettings
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights on disk; in memory they are float32."""
    training: Mapping[str, Any] | None = None
    """How it was trained, JSON values."""
    weights: str | None = None
    """Digest of latent.safetensors; set when it is saved."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members."""
        return tuple(member.name for member in self.members)


def describe_members(
    members: Sequence[Member], thinkers: Sequence[Thinker]
) -> tuple[TrainedMember, ...]:
    """Members as an artefact has them.

    Args:
        members: As they were named, unresolved.
        thinkers: The same, loaded.
    """
    return tuple(
        TrainedMember(
            name=member.expert,
            source=member.source,
            adapter=member.adapter,
            model_type=str(thinker.network.config.model_type),
            width=thinker.width,
            depth=thinker.depth,
            identity=thinker.identity,
        )
        for member, thinker in zip(members, thinkers, strict=True)
    )


def make_interaction(
    widths: Sequence[int],
    primaries: Sequence[int],
    settings: LatentSettings,
    *,
    seed: int = 0,
) -> Interaction:
    """Interaction layers, untrained, the same for the same seed; torch's own randomness is left.

    Args:
        widths: h of each expert.
        primaries: Numbers of the experts that may write.
        settings: Their shape.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Interaction(widths, primaries, settings)


def save_artefact(folder: Path, artefact: Artefact, interaction: Interaction) -> None:
    """Write both files, over those that were there.

    Args:
        folder: Made if it is not there.
        artefact: Its `weights` need not be set.
        interaction: Of the artefact's members and settings.

    Raises:
        ConfigError: The folder cannot be written.
    """
    dtype = DTYPES[artefact.dtype]
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in interaction.state_dict().items()
    }
    data = save(tensors)
    told = _ADAPTER.dump_python(replace(artefact, weights=_digest(data)), mode="json")
    beside = folder / f"{TENSORS}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, folder / TENSORS)
    except OSError as exc:
        raise unwritable(folder / TENSORS, exc) from exc
    write_whole(folder / ABOUT, json.dumps({"version": VERSION, **told}, indent=1) + "\n")


def read_artefact(folder: Path) -> Artefact:
    """What latent.json says.

    Raises:
        ConfigError: There is none, it is broken, or of a later version than this one reads.
    """
    try:
        told: Any = json.loads((folder / ABOUT).read_text("utf-8"))
        version = told.pop("version")
    except OSError as exc:
        raise ConfigError(
            f"{folder / ABOUT}: cannot be read ({exc.strerror}); name a folder that "
            "`composer latent fit` has saved"
        ) from exc
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise _broken(folder / ABOUT, repr(exc)) from exc
    if version != VERSION:
        raise ConfigError(
            f"{folder / ABOUT}: is of version {version!r}, and {VERSION} is read here; "
            "fit anew with `composer latent fit`, or install the version that wrote it"
        )
    try:
        artefact = _ADAPTER.validate_python(told)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise _broken(folder / ABOUT, f"{where}: {wrong['msg']}") from exc
    if not artefact.primaries or not set(artefact.primaries) <= set(artefact.names):
        raise _broken(folder / ABOUT, f"primaries {list(artefact.primaries)} are no members")
    return artefact


def load_interaction(folder: Path, artefact: Artefact) -> Interaction:
    """The interaction's layers in float32, on the CPU.

    Raises:
        ConfigError: The weights are missing, broken, or not those of the artefact.
    """
    file = folder / TENSORS
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise _broken(file, str(exc.strerror)) from exc
    if _digest(data) != artefact.weights:
        raise _broken(file, f"it is not what {ABOUT} was written for")
    interaction = make_interaction(
        [member.width for member in artefact.members],
        [artefact.names.index(name) for name in artefact.primaries],
        artefact.settings,
    )
    try:
        tensors = load(data)
        interaction.load_state_dict({name: t.float() for name, t in tensors.items()})
    except (SafetensorError, RuntimeError) as exc:
        raise _broken(file, str(exc).splitlines()[0]) from exc
    return interaction


def check_members(artefact: Artefact, thinkers: Sequence[Thinker], folder: Path) -> None:
    """Refuse experts that are not those that were trained beside.

    Args:
        artefact: What was trained.
        thinkers: Loaded, in any order; more than these do no harm.
        folder: Where it was read from.

    Raises:
        ConfigError: One is missing, or has other weights.
    """
    check_identities(artefact, {thinker.name: thinker.identity for thinker in thinkers}, folder)


def check_identities(artefact: Artefact, identities: Mapping[str, str], folder: Path) -> None:
    """The same as `check_members`, of digests by name: before anything is loaded."""
    for member in artefact.members:
        if member.name not in identities:
            raise ConfigError(
                f"no expert {member.name!r} in the group, which what is in {str(folder)!r} was "
                "trained beside; add it, or fit anew with `composer latent fit`"
            )
        if identities[member.name] != member.identity:
            raise ConfigError(
                f"expert {member.name!r} has other weights than those that what is in "
                f"{str(folder)!r} was trained beside; fit anew with `composer latent fit`, or "
                "bring those weights back"
            )


_ADAPTER = TypeAdapter(Artefact)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _broken(file: Path, why: str) -> ConfigError:
    return ConfigError(f"{file}: is broken ({why}); fit anew with `composer latent fit`")
