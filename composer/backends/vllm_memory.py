"""What a vLLM engine needs: its defaults, and its memory before it was ever loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from composer.backends.weights import model_bytes
from composer.types import EngineSpec

KV_CACHE_BYTES_DEFAULT = 1 << 29
"""KV space where engine_args says nothing of it, on the CPU: 512 MiB."""
BLOCK_TOKENS = 32
"""Tokens of a block of KV space on a CPU, where vLLM takes multiples of it. What prompts begin with
alike is computed once for each whole block: vLLM's own 128 are more than short prompts have."""


LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for `max_lora_rank`."""


def vllm_engine_args(spec: EngineSpec, device: str) -> dict[str, Any]:
    """VLLM's arguments for an engine that lives in the calling process.

    What experts.yaml says wins. The defaults on a CPU: eager (compiling costs more than small
    models gain), bfloat16, short blocks, and a fixed KV space, which also spares the profiling run.
    On a GPU
    (not measured) vLLM's own defaults hold.

    Args:
        spec: With `model_path` and adapters resolved to folders.
        device: vLLM's device type: "cpu", "cuda", ...
    """
    defaults: dict[str, Any] = {
        "distributed_executor_backend": "uni",
        "disable_log_stats": True,
        "trust_remote_code": spec.trust_remote_code,
    }
    if device == "cpu":
        defaults |= {
            "enforce_eager": True,
            "dtype": "bfloat16",
            "kv_cache_memory_bytes": KV_CACHE_BYTES_DEFAULT,
            "block_size": BLOCK_TOKENS,
        }
    if spec.adapters:
        rank = max(_rank(Path(folder)) for folder in spec.adapters.values())
        # On a CPU vLLM 0.32 gives a row without an adapter the weights of the last slot
        # (vllm-project/vllm#48421): one slot more than adapters leaves that one empty.
        spare = 1 if device == "cpu" else 0
        defaults |= {
            "enable_lora": True,
            "max_loras": len(spec.adapters) + spare,
            "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank),
            # A mixture of experts reads each token before it weighs them for the next.
            "async_scheduling": False,
        }
        modules = _target_modules([Path(folder) for folder in spec.adapters.values()])
        if device == "cpu" and modules is not None:
            # Left out, vLLM also adapts what no adapter names; the embedding is a product with
            # the whole vocabulary for every row.
            defaults["lora_target_modules"] = modules
    return defaults | dict(spec.engine_args)


def weights_bytes(spec: EngineSpec) -> int:
    """Weights of the model and its adapters, from the safetensors headers, in bytes."""
    folders = [spec.model_path, *spec.adapters.values()]
    return sum(model_bytes(Path(folder)) for folder in folders if folder is not None)


def engine_bytes(spec: EngineSpec) -> int:
    """Weights and KV space, in bytes."""
    if spec.model_path is None:
        return 0
    args = vllm_engine_args(spec, "cpu")
    return weights_bytes(spec) + int(args["kv_cache_memory_bytes"])


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return int(config.get("r", 8))


def _target_modules(adapters: list[Path]) -> list[str] | None:
    """The layers that any of the adapters names, by the last part of their names; None: unsaid."""
    names: set[str] = set()
    for adapter in adapters:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        named: list[str] | str | None = config.get("target_modules")
        if not isinstance(named, list) or config.get("modules_to_save"):
            return None
        names |= {name.rpartition(".")[2] for name in named}
    return sorted(names)
