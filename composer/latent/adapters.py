"""A LoRA adapter put into the weights that it adapts."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from composer.errors import ConfigError

PREFIX = "base_model.model."


def merge_adapter(network: Any, folder: Path) -> None:
    """Add scale x B A to each weight that an adapter names, in float32.

    Source: LoRA (arXiv 2106.09685), section 4.1; the scale of rank-stabilised adapters is that of
    arXiv 2312.03732.

    Args:
        network: The base, a causal language model of transformers; it is changed.
        folder: The adapter as peft saves it.

    Raises:
        ConfigError: The adapter cannot be read, is of another kind than LoRA, or of another base.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as exc:
        raise ConfigError(
            f"the adapter in {str(folder)!r} cannot be read: {exc}; get it anew"
        ) from exc
    if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora"):
        raise ConfigError(f"the adapter in {str(folder)!r} is no plain LoRA; only those are merged")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    weights = dict(network.named_parameters())
    outer = {
        name.removeprefix(PREFIX).removesuffix(".lora_B.weight"): tensor
        for name, tensor in tensors.items()
        if name.endswith(".lora_B.weight")
    }
    for name, b in outer.items():
        a = tensors.get(f"{PREFIX}{name}.lora_A.weight")
        weight = weights.get(f"{name}.weight")
        if a is None or weight is None or weight.shape != (b.shape[0], a.shape[1]):
            raise ConfigError(
                f"the adapter in {str(folder)!r} is for another base: it has no fit for {name!r}"
            )
        with torch.no_grad():
            change = scale * (b.float() @ a.float())
            weight.copy_((weight.float() + change).to(weight.dtype))
