"""A group: frozen experts and the interaction between them, run over whole texts at once."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from composer.latent.families import hooked
from composer.latent.interaction import Interaction, Memory
from composer.latent.members import Thinker, padded, positions
from composer.latent.reading import ALWAYS, NEVER, Reading
from composer.latent.settings import LatentSettings


@dataclass(frozen=True, slots=True)
class Heard:
    """What one peer has to say to each text of a batch."""

    expert: int
    """Its number in the group."""
    readings: Sequence[Reading]
    states: Sequence[Tensor]
    """Of each text, [Q, S, h]."""
    weights: Tensor | None = None
    """What its values are multiplied by in each text, [B]; None: by nothing."""


@dataclass(frozen=True, eq=False)
class Group:
    """Experts, by their numbers, and what lets one of them attend to the others."""

    thinkers: tuple[Thinker, ...]
    interaction: Interaction

    @property
    def settings(self) -> LatentSettings:
        """Of the interaction."""
        return self.interaction.settings

    def listen(self, expert: int, prompts: Sequence[Reading]) -> Heard:
        """Have a peer read prompts, and think ahead where the settings say so."""
        thinker, n_thought = self.thinkers[expert], self.settings.think_tokens
        cut = [prompt.within(thinker.context - n_thought) for prompt in prompts]
        return self.hear(expert, thinker.think(cut, n_thought))

    def hear(self, expert: int, readings: Sequence[Reading]) -> Heard:
        """Have a peer read texts, each cut to its context."""
        thinker = self.thinkers[expert]
        cut = [reading.within(thinker.context) for reading in readings]
        return Heard(expert, cut, thinker.states(cut, self.settings.levels))

    def memories(self, heard: Sequence[Heard], device: torch.device) -> list[Memory]:
        """What the primary attends to at each level: all peers' keys and values, side by side.

        Args:
            heard: Of each peer, the same texts.
            device: Of the primary.
        """
        return [self._memory(q, heard, device) for q in range(self.settings.levels)]

    def _memory(self, q: int, heard: Sequence[Heard], device: torch.device) -> Memory:
        level = self.interaction.level(q)
        found: Memory | None = None
        for one in heard:
            longest = max(map(len, one.readings))
            width = one.states[0].shape[-1]
            states = torch.zeros(
                len(one.states), longest, width, dtype=one.states[0].dtype, device=device
            )
            for row, of_text in enumerate(one.states):
                states[row, : of_text.shape[1]] = of_text[q].to(device)
            memory = level.remember(
                level.project(one.expert, states), *_places(one.readings, longest, device)
            )
            if one.weights is not None:
                memory = memory.weighted(one.weights.to(device))
            found = memory if found is None else found.joined(memory)
        assert found is not None, "a primary without peers"
        return found

    def logits(
        self,
        primary: int,
        readings: Sequence[Reading],
        memories: Sequence[Memory],
        keep: int,
        *,
        cache: Any = None,
        own: list[Memory] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The primary's scores of next tokens over texts that end together.

        Args:
            primary: Its number.
            readings: The texts; with a cache what comes after those that are in it.
            memories: Of its peers, a level each.
            keep: At how many tokens from the end.
            cache: The primary's, of transformers; None: none is kept.
            own: Its own memories, a level each, which are added to; None: none are kept.
            mask: Which tokens are no padding, those in the cache included, [B, S + T] int64;
                None: nothing is in the cache.

        Returns:
            [B, keep, V] in the type of the primary.
        """
        thinker = self.thinkers[primary]
        tokens, here = padded([r.tokens for r in readings], thinker.device)
        places, since = _padded_places(readings, tokens)
        mask = here if mask is None else mask
        attends_self = self.settings.attend_self

        def attend(q: int, states: Tensor) -> Tensor:
            level = self.interaction.level(q)
            projected = level.project(primary, states)
            mine: Memory | None = None
            if attends_self:
                mine = level.remember(projected, places, since)
                if own is not None:
                    if len(own) > q:
                        mine = own[q].joined(mine)
                        own[q] = mine
                    else:
                        own.append(mine)
            return level.attend(primary, states, projected, places, memories[q], mine)

        layers = thinker.hears_at(self.settings.levels, self.settings.insertion)
        with hooked(thinker.network, layers, attend):
            said = thinker.network(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions(mask)[:, -tokens.shape[1] :],
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=keep,
            )
        return said.logits


def _places(
    readings: Sequence[Reading], longest: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Places and what they are seen from, [B, S] int64, padding behind, which is never seen."""
    places = torch.zeros(len(readings), longest, dtype=torch.int64)
    since = torch.full_like(places, NEVER)
    for row, reading in enumerate(readings):
        places[row, : len(reading)] = torch.tensor(reading.places)
        since[row, : len(reading)] = torch.tensor(reading.since)
    return places.to(device), since.to(device)


def _padded_places(readings: Sequence[Reading], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The same of the primary, padding in front."""
    places = torch.zeros_like(tokens)
    since = torch.full_like(tokens, NEVER)
    for row, reading in enumerate(readings):
        places[row, -len(reading) :] = torch.tensor(reading.places)
        since[row, -len(reading) :] = ALWAYS
    return places, since
