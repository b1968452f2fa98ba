"""Trains an interaction on questions whose states are in memory."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from composer.latent.group import Group
from composer.latent.recipe import rate_at
from eval.latent.answering import Asked, scored


@dataclass(frozen=True, slots=True)
class Course:
    """How an interaction learns."""

    steps: int = 2500
    batch: int = 64
    learning_rate: float = 3e-3
    gate_rate: float = 1e-1
    weight_decay: float = 0.3
    warmup_steps: int = 50
    clip: float = 1.0


def learn(
    group: Group,
    asked: Asked,
    course: Course,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train a group's interaction in place.

    Args:
        group: Its interaction is untrained.
        asked: What is learned from.
        course: How.
        seed: Of the order.
        on_step: Is told how many steps are done, and the loss in nats a token.
    """
    rng = random.Random(seed)
    gates, others = _weights(group)
    optimiser = torch.optim.AdamW(
        [
            {"params": others, "weight_decay": course.weight_decay},
            {"params": gates, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    peaks = (course.learning_rate, course.gate_rate)
    order: list[int] = []
    for step in range(course.steps):
        if len(order) < course.batch:
            order = rng.sample(range(len(asked)), len(asked))
        rows, order = order[: course.batch], order[course.batch :]
        for params, peak in zip(optimiser.param_groups, peaks, strict=True):
            params["lr"] = rate_at(peak, step, course.steps, course.warmup_steps)
        scores, targets = scored(group, asked, rows, asked.heard_of(rows))
        loss = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*others, *gates], course.clip)
        optimiser.step()
        on_step(step + 1, loss.item())


def n_trained(group: Group) -> int:
    """Numbers that are learned."""
    gates, others = _weights(group)
    return sum(weight.numel() for weight in [*gates, *others])


def _weights(group: Group) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Gates, and all else."""
    gates: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in group.interaction.named_parameters():
        (gates if ".gate." in name else others).append(weight)
    return gates, others
