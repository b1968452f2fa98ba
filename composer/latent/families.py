"""The families of models that states are read from and added to, by their decoder layers."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

from composer.errors import ConfigError

FAMILIES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen",
    "qwen3": "Qwen",
    "gemma": "Gemma",
    "gemma2": "Gemma",
    "gemma3_text": "Gemma",
}
"""Transformers' name of an architecture -> its family. All keep their decoder layers in one list,
and each layer takes and returns the residual stream [batch, tokens, width]."""

Insertion = Literal["after", "before"]
BEFORE = -1
"""In place of a layer's number: what goes into the first one."""

OnState = Callable[[int, torch.Tensor], torch.Tensor | None]
"""Is given which layer of those asked for, from 0, and its output; what it returns replaces that
output, unless it is None."""


def check_family(expert: str, model_type: str) -> None:
    """Refuse a model whose layers are not known.

    Raises:
        ConfigError: It is of another family.
    """
    if model_type not in FAMILIES:
        names = ", ".join(f"{family} ({name})" for name, family in FAMILIES.items())
        raise ConfigError(
            f"expert {expert!r}: a mixture of thoughts cannot read a model of type "
            f"{model_type!r}; it reads {names}"
        )


def level_layers(depth: int, levels: int) -> tuple[int, ...]:
    """After which of `depth` layers, from 0, each of the levels lies: that of q at q / levels.

    Raises:
        ConfigError: There are more levels than layers.
    """
    if levels > depth:
        raise ConfigError(f"{levels} levels are more than a model of {depth} layers has; set fewer")
    return tuple(round(q * depth / levels) - 1 for q in range(1, levels + 1))


def hearing_layers(depth: int, levels: int, insertion: Insertion) -> tuple[int, ...]:
    """After which layers, from 0, a primary hears each level; -1: before the first layer.

    Raises:
        ConfigError: There are more levels than layers.
    """
    ends = level_layers(depth, levels)
    return ends if insertion == "after" else (BEFORE, *ends[:-1])


def decoder_layers(network: Any) -> Sequence[Any]:
    """The decoder layers of a causal language model, from the first."""
    return network.model.layers


@contextmanager
def hooked(network: Any, layers: Sequence[int], on_state: OnState) -> Generator[None]:
    """Have a function see, and perhaps replace, what some layers give to the next.

    Args:
        network: A causal language model of transformers, of a family in `FAMILIES`.
        layers: Numbers of layers, from 0, in order; `BEFORE` for what the first one is given.
        on_state: Called with the place in `layers` and the output, [batch, tokens, width].
    """
    found = decoder_layers(network)
    handles = [
        found[0].register_forward_pre_hook(_before(place, on_state))
        if layer == BEFORE
        else found[layer].register_forward_hook(_hook(place, on_state))
        for place, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(place: int, on_state: OnState) -> Callable[..., Any]:
    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        return on_state(place, output)

    return hook


def _before(place: int, on_state: OnState) -> Callable[..., Any]:
    def hook(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        heard = on_state(place, inputs[0])
        return None if heard is None else (heard, *inputs[1:])

    return hook
