"""Training an adapter: what it learns from, and that it goes on where it stopped."""

# torch, safetensors and transformers are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

from composer.errors import ConfigError
from eval.starter.items import make_items
from eval.starter.packing import Example, pack
from eval.starter.recipe import Recipe
from eval.starter.skills import SKILLS
from eval.starter.training import answer_loss, make_examples, train_adapter

RECIPE = Recipe(steps=6, batch=2, learning_rate=0.05, warmup_steps=1, keep_every=2)
EXAMPLES = [Example((1, 2, 3 + n % 4, 9, 10 + n % 4, 8), 4) for n in range(12)]


class Interruption(Exception):
    """What ends a run in the middle."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config: Any = transformers.LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_the_loss_of_packed_questions_is_that_of_their_answers_apart(model: Path) -> None:
    auto: Any = transformers.AutoModelForCausalLM
    network = auto.from_pretrained(model, dtype=torch.float32)
    examples = [Example((1, 2, 3, 9, 8), 3), Example((1, 2, 5, 4, 7, 7, 8), 4)]

    together = answer_loss(network, pack(examples))

    apart: list[float] = []
    for example in examples:
        logits = network(torch.tensor([example.tokens])).logits[0]
        nats = torch.nn.functional.cross_entropy(
            logits[:-1], torch.tensor(example.tokens[1:]), reduction="none"
        )
        apart += nats[example.n_prompt - 1 :].tolist()
    assert together.item() == pytest.approx(sum(apart) / len(apart), rel=1e-5)


def test_the_loss_falls_and_the_adapter_is_small_and_names_its_base(
    model: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=30, batch=12)

    losses = train_adapter(EXAMPLES * 30, model, tmp_path, recipe, base="package:base")

    assert losses[-1] < losses[0] / 2
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert len(weights) == 2 * 2 * 7
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (config["base_model_name_or_path"], config["r"]) == ("package:base", 4)
    assert json.loads((tmp_path / "losses.json").read_text("utf-8")) == [
        round(loss, 4) for loss in losses
    ]


def test_a_run_that_was_ended_goes_on_where_its_state_was_kept(model: Path, tmp_path: Path) -> None:
    whole = train_adapter(EXAMPLES, model, tmp_path / "whole", RECIPE, base="b")

    def end(step: int, _: float) -> None:
        if step == 5:
            raise Interruption

    with pytest.raises(Interruption):
        train_adapter(EXAMPLES, model, tmp_path / "cut", RECIPE, base="b", on_step=end)
    told: list[int] = []
    again = train_adapter(
        EXAMPLES,
        model,
        tmp_path / "cut",
        RECIPE,
        base="b",
        on_step=lambda step, _: told.append(step),
    )

    assert told == [5, 6]
    assert again == pytest.approx(whole, rel=1e-4)
    assert not (tmp_path / "cut" / "state").exists()


@pytest.fixture
def cut(model: Path, tmp_path: Path) -> Path:
    """A run that was ended after its fifth step; four are kept."""

    def end(step: int, _: float) -> None:
        if step == 5:
            raise Interruption

    with pytest.raises(Interruption):
        train_adapter(EXAMPLES, model, tmp_path, RECIPE, base="b", on_step=end)
    return tmp_path


def test_a_run_that_was_begun_with_other_settings_is_refused(model: Path, cut: Path) -> None:
    with pytest.raises(ConfigError, match=r"begun with other settings .*'learning_rate': 0.05"):
        train_adapter(EXAMPLES, model, cut, replace(RECIPE, learning_rate=0.1), base="b")


@pytest.mark.parametrize("file", ["about.json", "tensors.safetensors"])
def test_a_state_that_is_broken_is_refused_with_its_folder(
    model: Path, cut: Path, file: str
) -> None:
    path = cut / "state" / file
    path.write_bytes(path.read_bytes()[:20])

    with pytest.raises(ConfigError, match=r"state: is no state of a training run"):
        train_adapter(EXAMPLES, model, cut, RECIPE, base="b")


def test_too_few_examples_are_an_error(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="12 examples are used, not 11"):
        train_adapter(EXAMPLES[:11], model, tmp_path, RECIPE, base="b")


@pytest.mark.models
def test_examples_are_what_the_engine_is_sent_and_end_with_the_end_of_text(smol: Path) -> None:
    (item,) = make_items(SKILLS["units"], "train", 1)

    (example,) = make_examples([item], smol)

    tokenizer = Tokenizer.from_file(str(smol / "tokenizer.json"))
    assert item.prompt in tokenizer.decode(example.tokens[: example.n_prompt])
    assert tokenizer.decode(example.tokens[example.n_prompt : -1]) == item.reference
    assert tokenizer.id_to_token(example.tokens[-1]) == "<|im_end|>"
