"""A frozen expert in torch: its model, its tokenizer, and its states at each level."""

# torch and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.adapters import merge_adapter
from composer.latent.families import (
    Insertion,
    check_family,
    decoder_layers,
    hearing_layers,
    hooked,
    level_layers,
)
from composer.latent.identity import weights_identity
from composer.latent.reading import Reading
from composer.tokenizer import ChatTokenizer
from composer.types import Member

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Thinker:
    """One expert of a group; nothing in it is ever trained."""

    name: str
    network: Any
    """A causal language model of transformers."""
    tokenizer: ChatTokenizer
    ends: frozenset[int]
    """Tokens that end a text."""
    context: int
    """Tokens, at most."""
    identity: str
    """Digest of its weights."""

    @property
    def width(self) -> int:
        """Length h of a state."""
        return int(self.network.config.hidden_size)

    @property
    def depth(self) -> int:
        """Decoder layers."""
        return len(decoder_layers(self.network))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.device

    def layers(self, levels: int) -> tuple[int, ...]:
        """After which of its layers its states are read, level by level."""
        return level_layers(self.depth, levels)

    def hears_at(self, levels: int, insertion: Insertion) -> tuple[int, ...]:
        """After which of its layers it is told of others, level by level, where it writes."""
        return hearing_layers(self.depth, levels, insertion)

    @torch.no_grad()
    def states(self, readings: Sequence[Reading], levels: int) -> list[Tensor]:
        """Its states at each level, a text each: [Q, S, h] in its own type, on its device."""
        tokens, mask = padded([r.tokens for r in readings], self.device)
        found: list[Tensor] = []
        with hooked(self.network, self.layers(levels), lambda _, state: found.append(state)):
            self.network.model(
                input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False
            )
        stacked = torch.stack(found, dim=1)
        return [states[:, -len(r) :] for states, r in zip(stacked, readings, strict=True)]

    @torch.no_grad()
    def think(self, readings: Sequence[Reading], n_tokens: int) -> list[Reading]:
        """Each prompt with what it says to it by itself: `n_tokens`, or fewer up to an end."""
        if not n_tokens:
            return list(readings)
        tokens, mask = padded([r.tokens for r in readings], self.device)
        said = self.network.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=0,
        )[:, tokens.shape[1] :].tolist()
        return [self._thought(r, row) for r, row in zip(readings, said, strict=True)]

    def _thought(self, reading: Reading, said: Sequence[int]) -> Reading:
        ended = next((i for i, token in enumerate(said) if token in self.ends), len(said))
        said = said[:ended]
        places = [len(self.tokenizer.decode(said[: i + 1])) for i in range(len(said))]
        return reading.then(said, places, [reading.since[-1]] * len(said))


def load_thinker(
    member: Member, *, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> Thinker:
    """Load an expert's model, with its adapter in its weights.

    Args:
        member: With folders on this disk.
        dtype: Of weights and states.
        device: Torch's name of where it computes; members may be on several.

    Raises:
        ConfigError: It is of no known family, or its files cannot be read.
    """
    assert member.model_path is not None, "the source is not resolved"
    folder = Path(member.model_path)
    check_family(member.expert, model_type(folder))
    transformers.logging.disable_progress_bar()
    auto: Any = transformers.AutoModelForCausalLM
    try:
        network = auto.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"expert {member.expert!r}: {str(exc).splitlines()[0]}") from exc
    if member.adapter is not None:
        merge_adapter(network, Path(member.adapter))
    network.eval().requires_grad_(requires_grad=False).to(device)
    adapter = None if member.adapter is None else Path(member.adapter)
    return Thinker(
        member.expert,
        network,
        ChatTokenizer.load(folder, member.chat_template),
        _ends(folder, network),
        int(network.config.max_position_embeddings),
        weights_identity(folder, adapter),
    )


def model_type(folder: Path) -> str:
    """Transformers' name of a model's architecture.

    Raises:
        ConfigError: Its config.json is missing or broken.
    """
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"no model in {str(folder)!r}: its config.json cannot be read ({exc}); get it anew"
        ) from exc


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of tokens [B, S] that end together, and which of them are no padding [B, S] int64."""
    longest = max(map(len, rows))
    tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, longest - len(row) :] = torch.tensor(row, dtype=torch.int64)
        mask[i, longest - len(row) :] = 1
    return tokens.to(device), mask.to(device)


def positions(mask: Tensor) -> Tensor:
    """The number of each token in its own row, padding before it not counted, [B, S] int64."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _ends(folder: Path, network: Any) -> frozenset[int]:
    """What generation_config.json, or else the model, names as ends of a text."""
    file = folder / "generation_config.json"
    said: Any = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    ends = said.get("eos_token_id", network.config.eos_token_id)
    if ends is None:
        return frozenset()
    return frozenset([ends] if isinstance(ends, int) else ends)
