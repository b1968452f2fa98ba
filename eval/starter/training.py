"""Trains a LoRA adapter on questions and answers.

Source: LoRA (arXiv 2106.09685), by peft; the loss is of the answers' tokens only.
"""

# torch, safetensors and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from composer.latent.training_state import TrainingState
from composer.tokenizer import ChatTokenizer
from composer.types import Message
from eval.starter.packing import Example, Packed, pack
from eval.starter.recipe import Recipe
from eval.starter.skill import Item

STATE, LOSSES = "state", "losses.json"
TOGETHER = 8
"""Questions of one sequence: attention takes the square of its length."""


def make_examples(items: Sequence[Item], model: Path) -> list[Example]:
    """Tokens of questions as an engine is sent them, and of answers with the end of text.

    Args:
        items: Questions with answers.
        model: The base model's folder.
    """
    tokenizer = ChatTokenizer.load(model)
    config = json.loads((model / "generation_config.json").read_text("utf-8"))
    end = config["eos_token_id"]
    ends = [end] if isinstance(end, int) else list(end)
    examples: list[Example] = []
    for item in items:
        prompt = tokenizer.encode((Message("user", item.prompt),))
        answer = tokenizer.encode_text(item.reference)
        examples.append(Example((*prompt, *answer, ends[0]), len(prompt)))
    return examples


def train_adapter(
    examples: Sequence[Example],
    model: Path,
    folder: Path,
    recipe: Recipe,
    *,
    base: str,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train, or go on where it stopped; the adapter is in `folder` at the end.

    Args:
        examples: `steps` x `batch` of them are used, in their order.
        model: The base model's folder.
        folder: Of the adapter; made if it is not there.
        recipe: How.
        base: What the adapter says that it is for.
        on_step: Called after each step with its number, from 1, and loss.

    Returns:
        The mean loss of an answer's token at each step, in nats.

    Raises:
        ConfigError: What was kept of an earlier run is of another recipe, or broken.
        ValueError: There are too few examples.
    """
    if len(examples) < recipe.steps * recipe.batch:
        raise ValueError(f"{recipe.steps * recipe.batch} examples are used, not {len(examples)}")
    torch.manual_seed(recipe.seed)
    network = _network(model, recipe)
    weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(list(weights.values()), weight_decay=0.0)
    state = TrainingState(folder / STATE, asdict(recipe), weights, optimiser)
    losses: list[float] = state.take_up()
    for step in range(len(losses), recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        losses.append(_backward(network, examples[step * recipe.batch :][: recipe.batch]))
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        on_step(step + 1, losses[-1])
        if (step + 1) % recipe.keep_every == 0 and step + 1 < recipe.steps:
            state.keep(losses)
    _save(network, folder, losses, base)
    state.remove()
    return losses


def _backward(network: Any, rows: Sequence[Example]) -> float:
    """Add the gradients of a batch's mean loss, which is returned."""
    packs = [pack(rows[begin : begin + TOGETHER]) for begin in range(0, len(rows), TOGETHER)]
    n_answers = sum(len(packed.answers) for packed in packs)
    total = 0.0
    for packed in packs:
        share = answer_loss(network, packed) * (len(packed.answers) / n_answers)
        share.backward()
        total += share.item()
    return total


def answer_loss(network: Any, packed: Packed) -> torch.Tensor:
    """The mean loss of the answers' tokens, in nats.

    Args:
        network: A causal language model of transformers, or peft's around one.
        packed: What to read.
    """
    said = network(
        input_ids=torch.from_numpy(packed.tokens)[None],
        position_ids=torch.from_numpy(packed.positions)[None],
        attention_mask=torch.from_numpy(packed.attends)[None, None],
        logits_to_keep=torch.from_numpy(packed.before),
        use_cache=False,
    )
    return torch.nn.functional.cross_entropy(
        said.logits[0].float(), torch.from_numpy(packed.answers)
    )


def _network(model: Path, recipe: Recipe) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    base = auto.from_pretrained(model, dtype=torch.bfloat16)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    network: Any = peft.get_peft_model(base, config)
    network.train()
    return network


def _save(network: Any, folder: Path, losses: Sequence[float], base: str) -> None:
    """The adapter as peft writes it, in bfloat16."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    # peft writes the folder that the weights were read from, which says nothing elsewhere.
    network.peft_config["default"].base_model_name_or_path = base
    network.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / LOSSES).write_text(json.dumps([round(loss, 4) for loss in losses]) + "\n", "utf-8")
