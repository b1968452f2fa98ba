"""What a training run is taken up from: weights, the optimiser's moments and the steps so far."""

# torch and safetensors are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from composer.errors import ConfigError

ABOUT, TENSORS = "about.json", "tensors.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Of AdamW."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The folder of a run's state, and what is kept in it."""

    folder: Path
    recipe: Mapping[str, Any]
    """JSON values, all that the run depends on: another run is not taken up."""
    weights: Mapping[str, torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    """AdamW over these weights."""

    def keep(self, done: Sequence[Any]) -> None:
        """Write the state beside the one before it, and have it take its place.

        Args:
            done: What is to be known of each step that is done, JSON values.
        """
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        tensors = {f"weight/{name}": weight.detach() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            # What had no gradient yet has no moments.
            for moment, value in self.optimiser.state[weight].items():
                tensors[f"{moment}/{name}"] = value
        save_file({name: t.contiguous() for name, t in tensors.items()}, new / TENSORS)
        about = {"recipe": dict(self.recipe), "done": list(done)}
        (new / ABOUT).write_text(json.dumps(about), "utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(new, self.folder)

    def take_up(self) -> list[Any]:
        """What was kept of the steps that are done; weights and optimiser are as after them.

        Raises:
            ConfigError: The state is of another recipe, or broken.
        """
        if not self.folder.exists():
            return []
        try:
            about = json.loads((self.folder / ABOUT).read_text("utf-8"))
            done: list[Any] = about["done"]
            tensors = load_file(self.folder / TENSORS)
            begun: dict[str, Any] = about["recipe"]
            now: dict[str, Any] = json.loads(json.dumps(dict(self.recipe)))
            if begun == now:
                self._put_back(tensors)
                return done
            other = {key: begun.get(key) for key in begun | now if begun.get(key) != now.get(key)}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as exc:
            raise ConfigError(
                f"{self.folder}: is no state of a training run ({exc}); remove it"
            ) from exc
        raise ConfigError(
            f"{self.folder}: was begun with other settings ({other}); give those, or remove it"
        )

    def remove(self) -> None:
        """Forget it: the run has come to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _put_back(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[f"weight/{name}"])
            moments = {
                moment: self._like(tensors[f"{moment}/{name}"], weight, moment)
                for moment in MOMENTS
                if f"{moment}/{name}" in tensors
            }
            if moments:
                self.optimiser.state[weight] = moments

    def _like(self, kept: torch.Tensor, weight: torch.Tensor, moment: str) -> torch.Tensor:
        """A moment as the optimiser has it: its count of steps stays on the CPU."""
        return kept.clone() if moment == "step" else kept.to(weight.device, copy=True)
