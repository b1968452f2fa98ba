"""The layers that are trained: they let a primary attend to its peers, level by level.

B texts, T tokens of the primary, S tokens of its peers together, h widths of experts, d the width
of the shared space, H heads:

    primary's states x [B, T, h_p] --norm, down--> [B, T, d] --> queries [B, H, T, d/H]
    a peer's states  y [B, S, h_m] --norm, down--> [B, S, d] --> keys, values [B, H, S, d/H]
    attention, a small MLP --> [B, T, d] --up--> u [B, T, h_p]
    x + tanh(gate) * rms(x) * u

A gate begins at 0, so that the primary is itself, bit for bit, until something is learned.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from composer.latent.reading import NEVER
from composer.latent.settings import LatentSettings

SHORTEST, LONGEST = 4.0, 4096.0
"""Wavelengths of the rotation by place, in characters."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of one level, of all peers together, in the order they were added."""

    keys: Tensor
    """[B, H, S, d/H], rotated by place."""
    values: Tensor
    """[B, H, S, d/H]."""
    since: Tensor
    """[B, S] int64: the place in the text from which on a token is seen."""

    def joined(self, other: Memory) -> Memory:
        """With what the other one has put behind."""
        return Memory(
            torch.cat((self.keys, other.keys), dim=2),
            torch.cat((self.values, other.values), dim=2),
            torch.cat((self.since, other.since), dim=1),
        )

    def weighted(self, weights: Tensor) -> Memory:
        """With each text's values multiplied by its weight, [B]."""
        return Memory(self.keys, self.values * weights[:, None, None, None], self.since)

    def rows(self, which: Tensor) -> Memory:
        """That of some texts of the batch, [B'] int64."""
        return Memory(self.keys[which], self.values[which], self.since[which])


class Level(nn.Module):
    """One interaction, at one fraction of every expert's depth."""

    def __init__(self, widths: Sequence[int], primaries: Sequence[int], s: LatentSettings) -> None:
        """Make it, untrained.

        Args:
            widths: h of each expert.
            primaries: Numbers of the experts that may write.
            s: Settings.
        """
        super().__init__()
        d = s.width
        self.heads = s.heads
        self.down = nn.ModuleList(nn.Linear(width, d, bias=False) for width in widths)
        self.scale = nn.ParameterList(nn.Parameter(torch.ones(width)) for width in widths)
        self.query = nn.Linear(d, d, bias=False)
        self.key = nn.Linear(d, d, bias=False)
        self.value = nn.Linear(d, d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.rest = nn.Parameter(torch.zeros(d))
        self.grow = nn.Linear(d, 4 * d)
        self.shrink = nn.Linear(4 * d, d)
        self.up = nn.ModuleDict({str(p): nn.Linear(d, widths[p], bias=False) for p in primaries})
        shapes = {p: (widths[p],) if s.gate == "channel" else () for p in primaries}
        self.gate = nn.ParameterDict(
            {str(p): nn.Parameter(torch.zeros(shapes[p])) for p in primaries}
            if s.gate != "none"
            else {}
        )
        if s.gate == "none":
            for up in self.up.values():
                nn.init.zeros_(up.weight)  # pyright: ignore[reportArgumentType]
        pairs = d // s.heads // 4
        steps = torch.linspace(0, 1, pairs)
        self.register_buffer(
            "turns", 2 * torch.pi / (SHORTEST * (LONGEST / SHORTEST) ** steps), persistent=False
        )

    def project(self, expert: int, states: Tensor) -> Tensor:
        """States of an expert, [B, S, h] of any type, in the shared space: [B, S, d]."""
        normed = _unit_rms(states.to(self.rest.dtype)) * self.scale[expert]
        return self.down[expert](normed)

    def remember(self, projected: Tensor, places: Tensor, since: Tensor) -> Memory:
        """What is attended to of projected states.

        Args:
            projected: [B, S, d].
            places: Where in the text each token ends, [B, S] int64.
            since: From which place on it is seen, [B, S] int64.
        """
        keys = self._rotated(self._split(self.key(projected)), places)
        return Memory(keys, self._split(self.value(projected)), since)

    def attend(
        self,
        primary: int,
        states: Tensor,
        projected: Tensor,
        places: Tensor,
        memory: Memory,
        own: Memory | None = None,
    ) -> Tensor:
        """The primary's states after the interaction, [B, T, h] in their own type.

        Args:
            primary: Number of the expert that writes.
            states: Its states, [B, T, h].
            projected: The same by `project`, [B, T, d].
            places: Where in the text each of its tokens ends, [B, T] int64.
            memory: Of its peers.
            own: Of itself, these tokens at its end; None: it does not attend to itself.
        """
        batch, n_tokens = places.shape
        queries = self._rotated(self._split(self.query(projected)), places)
        # One key that all can rest on, whose value is 0: attending to peers is not compulsory.
        rest = self._split(self.rest.expand(batch, 1, -1))
        keys = torch.cat((rest, memory.keys), dim=2)
        values = torch.cat((torch.zeros_like(rest), memory.values), dim=2)
        seen = memory.since[:, None, :] <= places.clamp(min=0)[:, :, None]
        seen = torch.cat((torch.ones_like(seen[:, :, :1]), seen), dim=2)
        if own is not None:
            keys, values = (
                torch.cat(pair, dim=2) for pair in ((keys, own.keys), (values, own.values))
            )
            n_own = own.since.shape[1]
            order = torch.ones(n_tokens, n_own, dtype=torch.bool, device=seen.device)
            past = order.tril(n_own - n_tokens) & (own.since < NEVER)[:, None, :]
            seen = torch.cat((seen, past), dim=2)
        heard = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen[:, None]
        )
        thought = self.out(heard.transpose(1, 2).reshape(batch, n_tokens, -1))
        thought = thought + self.shrink(functional.gelu(self.grow(_unit_rms(thought))))
        change = self.up[str(primary)](thought)
        if str(primary) in self.gate:
            change = torch.tanh(self.gate[str(primary)]) * change
        size = states.detach().to(change.dtype).square().mean(-1, keepdim=True).sqrt()
        return states + (size * change).to(states.dtype)

    def _split(self, flat: Tensor) -> Tensor:
        """[B, S, d] -> [B, H, S, d/H]."""
        return flat.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _rotated(self, split: Tensor, places: Tensor) -> Tensor:
        """Half of each head turned by the place in the text; the other half by nothing.

        Source: RoFormer (arXiv 2104.09864), section 3.2. Deviations: places are characters of the
        text and not tokens, and half of the channels are left alone, as in GPT-NeoX.
        """
        turns: Any = self.turns
        angles = (places[:, None, :, None] * turns).to(split.dtype)
        n = angles.shape[-1]
        one, two, still = split[..., :n], split[..., n : 2 * n], split[..., 2 * n :]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((one * cos - two * sin, one * sin + two * cos, still), dim=-1)


class Interaction(nn.Module):
    """All levels of a mixture of thoughts."""

    def __init__(
        self, widths: Sequence[int], primaries: Sequence[int], settings: LatentSettings
    ) -> None:
        """Make it, untrained. See `Level`."""
        super().__init__()
        self.settings = settings
        self.levels = nn.ModuleList(
            Level(widths, primaries, settings) for _ in range(settings.levels)
        )

    def level(self, q: int) -> Level:
        """That number, from 0."""
        level = self.levels[q]
        assert isinstance(level, Level)
        return level

    def gates(self) -> Mapping[str, list[float]]:
        """Tanh of each primary's gates, level by level; of many channels the mean size."""
        found: dict[str, list[float]] = {}
        for level in self.levels:
            assert isinstance(level, Level)
            for primary, gate in level.gate.items():
                found.setdefault(primary, []).append(float(torch.tanh(gate.detach()).abs().mean()))
        return found


def _unit_rms(states: Tensor) -> Tensor:
    return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6)
