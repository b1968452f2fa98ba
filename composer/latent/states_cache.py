"""What frozen experts made of texts, on disk: none of them runs twice over the same one.

    FOLDER/IDENTITY/DIGEST.safetensors     `states` [Q, S, h] of one text
    FOLDER/IDENTITY/DIGEST.safetensors     `thought` [2, n]: tokens that follow a prompt, and places

A folder for the weights, and a name by what was read: tokens, layers and the type of the states. A
file that is broken is made anew.
"""

# torch and safetensors are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from composer.appending import unwritable
from composer.latent.members import Thinker
from composer.latent.reading import Reading

STATES, THOUGHT = "states", "thought"
TOGETHER = 8
"""Texts that an expert reads at one time."""

OnProgress = Callable[[int, int], None]
"""Is told how many texts are done, of how many that differ."""


class StatesCache:
    """States of texts, and thoughts on prompts, of any experts."""

    def __init__(self, folder: Path) -> None:
        """Store the folder; it is made when there is something to put in."""
        self.folder = folder

    def get(self, thinker: Thinker, tokens: Sequence[int], levels: int) -> Tensor | None:
        """The expert's states at each level, [Q, S, h] on the CPU; None: not there, or broken."""
        found = self._read(self._states_file(thinker, tokens, levels), STATES)
        shape = (levels, len(tokens), thinker.width)
        return found if found is not None and tuple(found.shape) == shape else None

    def put(self, thinker: Thinker, tokens: Sequence[int], levels: int, states: Tensor) -> None:
        """Keep the expert's states at each level, [Q, S, h].

        Raises:
            ConfigError: The disk is full, or cannot be written.
        """
        self._write(self._states_file(thinker, tokens, levels), STATES, states)

    def states(
        self, thinker: Thinker, readings: Sequence[Reading], levels: int, *, batch: int = TOGETHER
    ) -> list[Tensor]:
        """The expert's states of texts, [Q, S, h] each on the CPU; those that lack are made.

        Raises:
            ConfigError: See `put`.
        """
        found = {r.tokens: self.get(thinker, r.tokens, levels) for r in readings}
        lacking = [r for r in readings if found[r.tokens] is None]
        for some in _in_batches(lacking, batch):
            for reading, states in zip(some, thinker.states(some, levels), strict=True):
                # Cut out of what was padded, which would be kept with it.
                own = states.to("cpu", copy=True).contiguous()
                self.put(thinker, reading.tokens, levels, own)
                found[reading.tokens] = own
        return [states for r in readings if (states := found[r.tokens]) is not None]

    def thoughts(
        self, thinker: Thinker, prompts: Sequence[Reading], n_tokens: int, *, batch: int = TOGETHER
    ) -> list[Reading]:
        """Prompts with what the expert says to each by itself, as `Thinker.think` has them.

        Args:
            thinker: The expert.
            prompts: Cut so that what is said fits in behind.
            n_tokens: Of what is said, at most; 0: the prompts as they are.
            batch: Prompts at one time.

        Raises:
            ConfigError: See `put`.
        """
        if not n_tokens:
            return list(prompts)
        files = {p.tokens: self._thought_file(thinker, p.tokens, n_tokens) for p in prompts}
        found = {tokens: self._read(file, THOUGHT) for tokens, file in files.items()}
        lacking = [p for p in prompts if found[p.tokens] is None]
        for some in _in_batches(lacking, batch):
            for prompt, said in zip(some, thinker.think(some, n_tokens), strict=True):
                n = len(prompt)
                thought = torch.tensor([said.tokens[n:], said.places[n:]], dtype=torch.int64)
                self._write(files[prompt.tokens], THOUGHT, thought)
                found[prompt.tokens] = thought
        return [_with_thought(p, t) for p in prompts if (t := found[p.tokens]) is not None]

    def fill(
        self,
        thinker: Thinker,
        readings: Sequence[Reading],
        levels: int,
        *,
        batch: int = TOGETHER,
        on_progress: OnProgress = lambda done, total: None,
    ) -> None:
        """Make what lacks of the expert's states, texts of like lengths together.

        Raises:
            ConfigError: See `put`.
        """
        apart = {reading.tokens: reading for reading in readings}
        lacking = [r for r in apart.values() if not self._holds(thinker, r.tokens, levels)]
        done = len(apart) - len(lacking)
        on_progress(done, len(apart))
        for some in _in_batches(lacking, batch):
            self.states(thinker, some, levels, batch=batch)
            done += len(some)
            on_progress(done, len(apart))

    def _holds(self, thinker: Thinker, tokens: Sequence[int], levels: int) -> bool:
        """Whether there is a file that is whole; its states are not read."""
        try:
            with safe_open(self._states_file(thinker, tokens, levels), "pt") as file:
                shape: list[int] = file.get_slice(STATES).get_shape()
        except (OSError, SafetensorError):
            return False
        return shape == [levels, len(tokens), thinker.width]

    def _states_file(self, thinker: Thinker, tokens: Sequence[int], levels: int) -> Path:
        layers = list(thinker.layers(levels))
        dtype = str(thinker.network.dtype)
        return self._file(thinker, [STATES, dtype, layers, list(tokens)])

    def _thought_file(self, thinker: Thinker, tokens: Sequence[int], n_tokens: int) -> Path:
        dtype = str(thinker.network.dtype)
        return self._file(thinker, [THOUGHT, dtype, n_tokens, list(tokens)])

    def _file(self, thinker: Thinker, of: Sequence[object]) -> Path:
        digest = hashlib.sha256(json.dumps(of).encode()).hexdigest()
        return self.folder / thinker.identity / f"{digest}.safetensors"

    def _read(self, file: Path, name: str) -> Tensor | None:
        try:
            return load_file(file)[name]
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, file: Path, name: str, tensor: Tensor) -> None:
        beside = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.contiguous()}, beside)
            os.replace(beside, file)
        except OSError as exc:
            raise unwritable(file, exc) from exc
        except SafetensorError as exc:
            raise unwritable(file, OSError(0, str(exc))) from exc


def _with_thought(prompt: Reading, thought: Tensor) -> Reading:
    both: list[list[int]] = thought.tolist()
    tokens, places = both
    return prompt.then(tokens, places, [prompt.since[-1]] * len(tokens))


def _in_batches(readings: Sequence[Reading], batch: int) -> list[list[Reading]]:
    """Readings that differ, longest first, so that little is padded."""
    apart = {reading.tokens: reading for reading in readings}
    ordered = sorted(apart.values(), key=lambda reading: -len(reading))
    return [ordered[i : i + batch] for i in range(0, len(ordered), batch)]
