"""A LoRA adapter in the weights of its base."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from composer.errors import ConfigError
from composer.latent.adapters import merge_adapter
from composer.latent.identity import weights_identity
from tests.latent_models import save_tiny_model

TOKENS = torch.tensor([[5, 9, 17, 30]])


def loaded(folder: Path) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32)


def save_adapter(model: Path, folder: Path, **options: Any) -> Any:
    """An adapter of random weights by peft, and the network with it."""
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **options
    )
    network: Any = peft.get_peft_model(loaded(model), config)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(folder, save_embedding_layers=False)
    return network


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_it_says_what_peft_says(tmp_path: Path, options: dict[str, Any]) -> None:
    model = save_tiny_model(tmp_path / "base", "llama", 1)
    adapted = save_adapter(model, tmp_path / "adapter", **options)
    merged = loaded(model)

    merge_adapter(merged, tmp_path / "adapter")

    with torch.no_grad():
        expected, said = adapted(TOKENS).logits, merged(TOKENS).logits
        assert torch.allclose(said, expected, atol=1e-4)
        assert not torch.allclose(said, loaded(model)(TOKENS).logits, atol=1e-2)


def test_one_of_another_base_is_refused(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base", "llama", 1)
    other = save_tiny_model(tmp_path / "other", "llama", 1, width=64)
    save_adapter(other, tmp_path / "adapter")

    with pytest.raises(ConfigError, match="is for another base"):
        merge_adapter(loaded(model), tmp_path / "adapter")


def test_one_of_another_kind_is_refused(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base", "llama", 1)
    save_adapter(model, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "IA3"}))

    with pytest.raises(ConfigError, match="is no plain LoRA"):
        merge_adapter(loaded(model), tmp_path / "adapter")


def test_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base", "llama", 1)

    with pytest.raises(ConfigError, match="cannot be read"):
        merge_adapter(loaded(model), tmp_path)


def test_other_weights_or_another_adapter_are_another_identity(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "one", "llama", 1)
    same = save_tiny_model(tmp_path / "same", "llama", 1)
    other = save_tiny_model(tmp_path / "other", "llama", 2)
    save_adapter(model, tmp_path / "adapter")

    assert weights_identity(model) == weights_identity(same)
    assert weights_identity(model) != weights_identity(other)
    assert weights_identity(model) != weights_identity(model, tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"no \*\.safetensors"):
        weights_identity(tmp_path)


def test_a_large_file_is_told_by_its_pieces(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(20 << 20))
    before = weights_identity(tmp_path)
    file.write_bytes(bytes([1]) * (20 << 20))

    assert weights_identity(tmp_path) != before
