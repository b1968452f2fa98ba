"""Small models of several families, trained here from nothing to know what they are told."""

# torch, tokenizers and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

from composer.latent.recipe import rate_at
from composer.tokenizer import ChatTokenizer
from composer.types import Message
from eval.latent.phrasings import Lesson

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
SPECIAL = [BEGIN, END, PAD, "<user>", "<model>"]
TEMPLATES = {
    "llama": "<s> {% for m in messages %}{{ m.content }} {% endfor %}<model>",
    "gemma3_text": "<s> <user> {% for m in messages %}{{ m.content }} {% endfor %}<model>",
    "qwen2": "{% for m in messages %}<user> {{ m.content }}\n{% endfor %}<model> ",
}
PIECES = 500
"""Of the peer's tokenizer: names of people are in several."""
WARMUP = 50
"""Steps over which a model's rate rises."""
Family = Literal["llama", "qwen2", "gemma3_text"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's, and how long it learns."""

    family: Family
    depth: int
    width: int
    steps: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A token a word."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, "<unk>", *sorted(set(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def piece_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Pieces of words, with the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False),
    )
    return tokenizer


def train_model(
    folder: Path,
    shape: Shape,
    tokenizer: Tokenizer,
    lessons: Callable[[int], Sequence[Lesson]],
    seed: int,
    on_step: Callable[[float], None] = lambda _: None,
) -> None:
    """Train a model and write its folder, as transformers do.

    Args:
        folder: Made here.
        shape: The model's.
        tokenizer: Its own.
        lessons: Of a step, from 0: a batch, drawn anew.
        seed: Of the first weights.
        on_step: Is told the loss after each step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**named, "chat_template": TEMPLATES[shape.family]}, indent=1), "utf-8"
    )
    chat = ChatTokenizer.load(folder)
    torch.manual_seed(seed)
    network = _network(shape, tokenizer.get_vocab_size())
    teach(network, chat, shape, lessons, on_step)
    network.save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}), "utf-8"
    )


def teach(
    network: Any,
    chat: ChatTokenizer,
    shape: Shape,
    lessons: Callable[[int], Sequence[Lesson]],
    on_step: Callable[[float], None] = lambda _: None,
) -> None:
    """Train whatever of a causal language model has a gradient, on the answers' tokens.

    Args:
        network: Of transformers.
        chat: Its tokenizer.
        shape: Steps and rates are read of it.
        lessons: See `train_model`.
        on_step: See `train_model`.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(
        weights, lr=1.0, betas=(0.9, 0.98), weight_decay=shape.weight_decay, fused=True
    )
    for step in range(shape.steps):
        tokens, labels = _batch(chat, lessons(step))
        rate = rate_at(shape.learning_rate, step, shape.steps, WARMUP)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = functional.cross_entropy(
            network(input_ids=tokens).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        on_step(float(loss.detach()))


def _batch(chat: ChatTokenizer, lessons: Sequence[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and what is to be learned of them, [B, S] int64; -100 is not."""
    rows: list[tuple[list[int], list[int]]] = []
    for lesson in lessons:
        prompt = chat.encode([Message("user", lesson.question)])
        rows.append((prompt, [*chat.encode_text(lesson.answer), 1]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.full((len(rows), longest), 2)
    labels = torch.full_like(tokens, -100)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return tokens, labels


def _network(shape: Shape, vocabulary: int) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": 4 * shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "initializer_range": 0.02,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    config: Any
    if shape.family == "llama":
        config = transformers.LlamaConfig(**sizes)
        return transformers.LlamaForCausalLM(config)
    if shape.family == "gemma3_text":
        config = transformers.Gemma3TextConfig(
            **sizes, head_dim=shape.width // 4, query_pre_attn_scalar=shape.width // 4
        )
        return transformers.Gemma3ForCausalLM(config)
    config = transformers.Qwen2Config(**sizes)
    return transformers.Qwen2ForCausalLM(config)
