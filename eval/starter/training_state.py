"""What a training run is taken up from: weights, the optimiser's moments and the losses so far."""

# torch, safetensors and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from composer.errors import ConfigError
from eval.starter.recipe import Recipe

ABOUT, TENSORS = "about.json", "tensors.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The folder of a run's state, and what is kept in it."""

    folder: Path
    recipe: Recipe
    weights: Mapping[str, torch.nn.Parameter]
    optimiser: torch.optim.Optimizer

    def keep(self, losses: Sequence[float]) -> None:
        """Write the state beside the one before it, and have it take its place."""
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        tensors = {f"weight/{name}": weight.detach() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            for moment in MOMENTS:
                tensors[f"{moment}/{name}"] = self.optimiser.state[weight][moment]
        save_file({name: t.contiguous() for name, t in tensors.items()}, new / TENSORS)
        about = {"recipe": asdict(self.recipe), "losses": list(losses)}
        (new / ABOUT).write_text(json.dumps(about), "utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(new, self.folder)

    def take_up(self) -> list[float]:
        """Losses of the steps that are done; weights and optimiser are as after them.

        Raises:
            ConfigError: The state is of another recipe, or broken.
        """
        if not self.folder.exists():
            return []
        try:
            about = json.loads((self.folder / ABOUT).read_text("utf-8"))
            losses: list[float] = about["losses"]
            tensors = load_file(self.folder / TENSORS)
            begun = about["recipe"]
            if begun == asdict(self.recipe):
                self._put_back(tensors, len(losses))
                return losses
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as exc:
            raise ConfigError(
                f"{self.folder}: is no state of a training run ({exc}); remove it"
            ) from exc
        raise ConfigError(
            f"{self.folder}: was begun with other settings ({begun}); give those, or remove it"
        )

    def remove(self) -> None:
        """Forget it: the run has come to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _put_back(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[f"weight/{name}"])
            moments = {moment: tensors[f"{moment}/{name}"].clone() for moment in MOMENTS}
            self.optimiser.state[weight] = {"step": torch.tensor(float(steps)), **moments}
