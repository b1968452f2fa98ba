"""LoRA adapters of random weights, for tests that serve them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

RANK, ALPHA = 4, 8


def adapter_weights(model: Path, seed: int, *, strength: float = 1.0) -> dict[str, Any]:
    """A random adapter of all queries and values: at 1 it changes a few words, at 10 all."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = {"q_proj": width, "v_proj": width // heads * config["num_key_value_heads"]}
    rng = np.random.default_rng(seed)
    return {
        f"model.layers.{layer}.self_attn.{name}.lora_{side}.weight": (
            rng.standard_normal((RANK, width) if side == "A" else (size, RANK)) * scale
        ).astype(np.float32)
        for layer in range(config["num_hidden_layers"])
        for name, size in sizes.items()
        for side, scale in (("A", 0.05 * strength), ("B", 0.02 * strength))
    }


def save_adapter(folder: Path, weights: Mapping[str, Any]) -> None:
    """Write an adapter as peft does."""
    folder.mkdir()
    named = {f"base_model.model.{name}": array for name, array in weights.items()}
    save_file(named, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
