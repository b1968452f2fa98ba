"""Tiny models of random weights, of several families, each with a tokenizer of its own."""

# transformers and tokenizers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from composer.types import Member

Family = Literal["llama", "gemma", "qwen", "mistral"]

TEXT = "what is the capital of norway and the answer is oslo red green blue one two three "
"""What the tokenizers' words are taken from; all else they spell byte by byte."""
VOCABULARY: Mapping[Family, int] = {"llama": 300, "gemma": 270, "qwen": 320, "mistral": 285}
SQUARE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
TEMPLATES: Mapping[Family, str] = {
    "llama": SQUARE,
    "gemma": TURNS,
    "qwen": TURNS.replace("{{ bos_token }}", ""),
    "mistral": SQUARE,
}


def save_tiny_model(
    folder: Path,
    family: Family,
    seed: int,
    *,
    layers: int = 4,
    width: int = 32,
    context: int = 256,
) -> Path:
    """Write a model in float32 with a tokenizer and a chat template; the folder.

    Args:
        folder: Made if it is not there.
        family: Gemma 3 looks back by 32 tokens in every other layer.
        seed: Of its weights.
        layers: Decoder layers.
        width: Length of a state, a multiple of 8.
        context: Tokens, at most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY[family],
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    torch.manual_seed(seed)
    _network(family, sizes).float().save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}), "utf-8"
    )
    _tokenizer(VOCABULARY[family]).save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "chat_template": TEMPLATES[family],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def tiny_member(name: str, folder: Path) -> Member:
    """An expert of a group, its folder found."""
    return Member(name, source=str(folder), model_path=str(folder))


def _network(family: Family, sizes: Mapping[str, Any]) -> Any:
    head = sizes["hidden_size"] // 4
    config: Any
    match family:
        case "llama":
            config = transformers.LlamaConfig(**sizes)
            return transformers.LlamaForCausalLM(config)
        case "qwen":
            config = transformers.Qwen2Config(**sizes)
            return transformers.Qwen2ForCausalLM(config)
        case "mistral":
            config = transformers.MistralConfig(**sizes, head_dim=head, sliding_window=None)
            return transformers.MistralForCausalLM(config)
        case "gemma":
            kinds = ["sliding_attention", "full_attention"] * sizes["num_hidden_layers"]
            config = transformers.Gemma3TextConfig(
                **sizes,
                head_dim=head,
                query_pre_attn_scalar=head,
                sliding_window=32,
                layer_types=kinds[: sizes["num_hidden_layers"]],
            )
            return transformers.Gemma3ForCausalLM(config)


def _tokenizer(size: int) -> Tokenizer:
    """Bytes, and the commonest pieces of `TEXT`; it has a word for what any text is made of."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    return tokenizer
