"""Trains an interaction on questions whose states are in memory."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from composer.latent.group import Group
from composer.latent.recipe import rate_at
from composer.latent.starts import lately
from eval.latent.answering import Asked, scored


@dataclass(frozen=True, slots=True)
class Course:
    """How an interaction learns."""

    steps: int = 2500
    batch: int = 64
    learning_rate: float = 3e-3
    gate_rate: float = 0.3
    weight_decay: float = 0.0
    warmup_steps: int = 50
    clip: float = 1.0
    starts: int = 3
    """First weights that are tried."""
    start_steps: int = 400
    """Of each, before the others are given up."""

    @property
    def all_steps(self) -> int:
        """Of all starts."""
        return self.steps + (self.starts - 1) * self.start_steps


def learn(
    starts: Sequence[Group],
    asked: Asked,
    course: Course,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Group:
    """Train groups that differ in their first weights for a while, and the best one to its end.

    All begin on a plateau, where little is heard of peers. Some leave it within a few hundred
    steps and some stay there; which ones cannot be told from the weights, but from the loss.

    Args:
        starts: The same members, their interactions untrained; trained in place.
        asked: What is learned from.
        course: How.
        seed: Of the order.
        on_step: Is told how many steps are done, over all groups, and the loss in nats a token.

    Returns:
        The group whose mean loss over the last steps of its start was the lowest.
    """
    done = itertools.count(1)

    def told(losses: Iterable[float]) -> list[float]:
        found: list[float] = []
        for loss in losses:
            found.append(loss)
            on_step(next(done), loss)
        return found

    trainings = [_steps(group, asked, course, seed) for group in starts]
    begun = [told(itertools.islice(one, course.start_steps)) for one in trainings]
    best = min(range(len(starts)), key=lambda i: lately(begun[i]))
    told(trainings[best])
    return starts[best]


def _steps(group: Group, asked: Asked, course: Course, seed: int) -> Iterator[float]:
    """Train a group's interaction in place; the loss of each step."""
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
        yield loss.item()


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
