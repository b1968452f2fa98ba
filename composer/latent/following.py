"""A peer that follows a text while the primary writes it."""

# torch and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from composer.latent.families import hooked
from composer.latent.members import Thinker
from composer.latent.reading import ALWAYS, Reading


class Follower:
    """One peer's states of one text; what it has read is not read again.

    Tokens of a text may change as it goes on, where words are not yet whole: those that did are
    read anew. They may also differ from those of the whole text, which training reads.
    """

    def __init__(self, thinker: Thinker, prompt: Reading, levels: int) -> None:
        """Read the prompt, cut to the peer's context."""
        self._thinker = thinker
        self._levels = levels
        self.prompt = prompt.within(thinker.context)
        self._cache: Any = None
        self._tokens: list[int] = []
        self.prompt_states = self._read(list(self.prompt.tokens))
        """[Q, S, h]."""
        self._states = self.prompt_states[:, :0]

    def follow(self, text: str) -> tuple[Reading, Tensor]:
        """Tokens of all that has been written, and the states at them, [Q, S, h].

        What is longer than the peer's context is not read to its end.
        """
        tokens, ends = self._thinker.tokenizer.encode_text_places(text)
        room = max(self._thinker.context - len(self.prompt), 0)
        tokens, ends = tokens[:room], ends[:room]
        same = _common(self._tokens, tokens)
        if same < len(self._tokens):
            self._back_to(same)
        if tokens[same:]:
            self._states = torch.cat((self._states[:, :same], self._read(tokens[same:])), dim=1)
        self._tokens = tokens
        return Reading(tuple(tokens), tuple(ends), (ALWAYS,) * len(tokens)), self._states

    def _back_to(self, n_tokens: int) -> None:
        """Forget what came after so many tokens of the text."""
        self._states = self._states[:, :n_tokens]
        window = getattr(self._thinker.network.config, "sliding_window", None)
        length = len(self.prompt) + len(self._tokens)
        if window is None or length < window:
            self._cache.crop(len(self.prompt) + n_tokens)
            return
        # A window that has slid cannot go back.
        self._cache = None
        self._read([*self.prompt.tokens, *self._tokens[:n_tokens]])

    @torch.no_grad()
    def _read(self, tokens: list[int]) -> Tensor:
        network = self._thinker.network
        if self._cache is None:
            self._cache = DynamicCache(config=network.config)
        found: list[Tensor] = []
        layers = self._thinker.layers(self._levels)
        with hooked(network, layers, lambda _, state: found.append(state)):
            network.model(
                input_ids=torch.tensor([tokens], device=self._thinker.device),
                past_key_values=self._cache,
                use_cache=True,
            )
        return torch.stack([state[0] for state in found])


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens are the same from the beginning."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
