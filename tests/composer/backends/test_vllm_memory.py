"""vLLM's arguments and needs, before vLLM is ever imported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from composer.backends.vllm_memory import (
    KV_CACHE_BYTES_DEFAULT,
    engine_bytes,
    vllm_engine_args,
)
from composer.types import EngineSpec


def spec(folder: Path, **fields: object) -> EngineSpec:
    values: dict[str, object] = {"model_path": str(folder), **fields}
    return EngineSpec("k", "vllm", "ray", ("e",), **values)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with 4,000 bytes of weights."""
    save_file({"w": np.zeros((10, 100), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter of rank 12 with 400 bytes of weights."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({"a": np.zeros((10, 10), np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 12}), encoding="utf-8")
    return folder


def test_the_need_is_weights_and_kv_space(model: Path) -> None:
    assert engine_bytes(spec(model)) == 4000 + KV_CACHE_BYTES_DEFAULT
    small = spec(model, engine_args={"kv_cache_memory_bytes": 1000})
    assert engine_bytes(small) == 5000


def test_adapters_count_and_set_the_lora_arguments(model: Path, adapter: Path) -> None:
    with_adapter = spec(model, adapters={"units": str(adapter)})
    assert engine_bytes(with_adapter) == 4400 + KV_CACHE_BYTES_DEFAULT
    args = vllm_engine_args(with_adapter, "cpu")
    assert (args["enable_lora"], args["max_loras"], args["max_lora_rank"]) == (True, 2, 16)
    assert vllm_engine_args(with_adapter, "cuda")["max_loras"] == 1


def test_only_the_layers_that_an_adapter_names_are_adapted(model: Path, adapter: Path) -> None:
    def args(**config: object) -> dict[str, object]:
        text = json.dumps({"r": 12, **config})
        (adapter / "adapter_config.json").write_text(text, encoding="utf-8")
        return vllm_engine_args(spec(model, adapters={"units": str(adapter)}), "cpu")

    named = args(target_modules=["q_proj", "self_attn.v_proj"])
    assert named["lora_target_modules"] == ["q_proj", "v_proj"]
    assert "lora_target_modules" not in args(target_modules="all-linear")
    assert "lora_target_modules" not in args(target_modules=["q_proj"], modules_to_save=["lm_head"])


def test_what_experts_yaml_says_wins_over_every_default(model: Path) -> None:
    args = vllm_engine_args(spec(model, engine_args={"dtype": "float32", "seed": 3}), "cpu")
    assert args["dtype"] == "float32"
    assert args["seed"] == 3
    assert args["enforce_eager"] is True


def test_on_a_gpu_vllms_own_defaults_hold(model: Path) -> None:
    args = vllm_engine_args(spec(model), "cuda")
    assert not {"dtype", "enforce_eager", "kv_cache_memory_bytes"} & set(args)


def test_remote_code_is_trusted_only_where_the_expert_says_so(model: Path) -> None:
    assert vllm_engine_args(spec(model), "cpu")["trust_remote_code"] is False
    assert vllm_engine_args(spec(model, trust_remote_code=True), "cpu")["trust_remote_code"] is True
