"""Texts that one primary writes together, a token of each at a time, with all that is cached."""

# torch and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from composer.latent.following import Follower
from composer.latent.group import Group, Heard
from composer.latent.interaction import Memory
from composer.latent.reading import ALWAYS, Reading


class Cohort:
    """A batch that began together: the primary's cache, and its peers' keys and values."""

    def __init__(
        self, group: Group, primary: int, prompts: Mapping[int, Sequence[Reading]]
    ) -> None:
        """Store what is to be read.

        Args:
            group: The experts.
            primary: The number of the one that writes.
            prompts: Of every expert that takes part, the same prompts.
        """
        self._group = group
        self._primary = primary
        self._prompts = prompts
        self._peers = [expert for expert in prompts if expert != primary]
        self._followers: list[dict[int, Follower]] = []
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._of_prompt: list[Memory] = []
        self._memories: list[Memory] = []
        self._own: list[Memory] | None = None
        self._n_written = 0

    @torch.no_grad()
    def begin(self) -> Tensor:
        """Read the prompts; the scores of the first tokens, [B, V]."""
        thinker = self._group.thinkers[self._primary]
        prompts = self._prompts[self._primary]
        self._of_prompt = self._memories = self._group.memories(self._listen(), thinker.device)
        self._cache = DynamicCache(config=thinker.network.config)
        self._own = [] if self._group.settings.attend_self else None
        longest = max(map(len, prompts))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self._mask = (torch.arange(longest) >= longest - lengths[:, None]).long().to(thinker.device)
        return self._read(prompts)

    @torch.no_grad()
    def step(self, tokens: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Read a token of each text; the scores of the next ones, [B, V].

        Args:
            tokens: The newest of each.
            texts: All that has been written, these tokens included.
        """
        self._n_written += 1
        self._refresh(texts)
        self._mask = torch.cat((self._mask, torch.ones_like(self._mask[:, :1])), dim=1)
        return self._read(
            [Reading((t,), (len(x),), (ALWAYS,)) for t, x in zip(tokens, texts, strict=True)]
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts only."""
        which = torch.tensor(list(rows), dtype=torch.int64, device=self._mask.device)
        self._cache.batch_select_indices(which)
        self._mask = self._mask[which]
        self._of_prompt = [memory.rows(which) for memory in self._of_prompt]
        self._memories = [memory.rows(which) for memory in self._memories]
        if self._own is not None:
            self._own = [memory.rows(which) for memory in self._own]
        if self._followers:
            self._followers = [self._followers[row] for row in rows]

    def _read(self, readings: Sequence[Reading]) -> Tensor:
        logits = self._group.logits(
            self._primary,
            readings,
            self._memories,
            1,
            cache=self._cache,
            own=self._own,
            mask=self._mask,
        )
        return logits[:, -1]

    def _listen(self) -> list[Heard]:
        """What the peers make of the prompts."""
        group = self._group
        if group.settings.refresh == "prompt":
            return [group.listen(peer, self._prompts[peer]) for peer in self._peers]
        n_texts = len(self._prompts[self._primary])
        self._followers = [
            {
                peer: Follower(
                    group.thinkers[peer], self._prompts[peer][row], group.settings.levels
                )
                for peer in self._peers
            }
            for row in range(n_texts)
        ]
        return [
            Heard(
                peer,
                [of_text[peer].prompt for of_text in self._followers],
                [of_text[peer].prompt_states for of_text in self._followers],
            )
            for peer in self._peers
        ]

    def _refresh(self, texts: Sequence[str]) -> None:
        """Have the peers read what has been written, if it is their turn."""
        settings = self._group.settings
        every = {"prompt": 0, "every_n": settings.refresh_every, "token": 1}[settings.refresh]
        if not every or self._n_written % every:
            return
        heard: list[Heard] = []
        for peer in self._peers:
            pairs = zip(self._followers, texts, strict=True)
            read = [of_text[peer].follow(text) for of_text, text in pairs]
            if any(len(reading) for reading, _ in read):
                heard.append(Heard(peer, [r for r, _ in read], [states for _, states in read]))
        if heard:
            said = self._group.memories(heard, self._mask.device)
            self._memories = [
                of_prompt.joined(more)
                for of_prompt, more in zip(self._of_prompt, said, strict=True)
            ]
