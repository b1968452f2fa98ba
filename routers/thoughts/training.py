"""Trains the router of a mixture of thoughts on recorded scores instead of on what experts write.

    loss = -(sum of the chosen experts' advantages) / K
         + entropy * ... + balance * ... + consistency * ...    (composer.latent.routing_losses)

An expert's advantage is its score minus the mean of the query's known scores: what everybody gets
right tells no choice from another. Where its score is not known it is 0, so that the choice is
neither rewarded nor punished.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from composer.latent.routing import Routing, ThoughtRouter, choose, gumbel
from composer.latent.routing_losses import RoutingWeights, routing_loss

if TYPE_CHECKING:
    from composer.types import Float32Array

_BATCH = 128
_RATE = 1e-3
_DECAY = 0.02


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a router is trained."""

    hidden: int
    k: int
    """Experts a query; all of them, where there are fewer."""
    weights: RoutingWeights
    """Those of the auxiliary terms; `choice` is not used."""
    temperature: float
    steps: int
    seed: int


def train_router(embeddings: Float32Array, score: Float32Array, recipe: Recipe) -> ThoughtRouter:
    """A router of m experts, in no training; deterministic.

    Args:
        embeddings: [n, d].
        score: [n, m] in [0, 1]; NaN: unknown. Something is known of every expert.
        recipe: How.
    """
    z, advantage = torch.from_numpy(embeddings), torch.from_numpy(advantages(score))
    n_experts = score.shape[1]
    router = ThoughtRouter(z.shape[1], n_experts, hidden=recipe.hidden, seed=recipe.seed)
    router.settle(z)
    # Fused: a step is of small matrices, and most of it would be bookkeeping.
    optimiser = torch.optim.AdamW(router.parameters(), lr=_RATE, weight_decay=_DECAY, fused=True)
    generator = torch.Generator().manual_seed(recipe.seed)
    rows = _batches(len(z), generator)
    k = min(recipe.k, n_experts)
    for _ in range(recipe.steps):
        batch = next(rows)
        logits = router(z[batch])
        first, again = (
            choose(logits, k, noise=gumbel(logits, generator), temperature=recipe.temperature)
            for _ in range(2)
        )
        auxiliary, _ = routing_loss(first, again, recipe.weights)
        loss = auxiliary + reward_loss(first, advantage[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _centred(router).eval().requires_grad_(requires_grad=False)


def advantages(score: Float32Array) -> Float32Array:
    """Each score minus the mean of its row's known ones, [n, m]; 0 where it is not known."""
    known = ~np.isnan(score)
    n_known = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, score, 0).sum(axis=1, keepdims=True) / n_known
    return np.where(known, score - mean, 0).astype(np.float32)


def reward_loss(routing: Routing, advantage: Tensor) -> Tensor:
    """Minus the mean advantage of the chosen experts, mean over the queries, [n, m]."""
    return -(routing.weights * advantage).sum(dim=1).mean() / routing.active.shape[1]


def _batches(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers of rows, each once before any comes again."""
    while True:
        yield from torch.randperm(n, generator=generator).split(_BATCH)


def _centred(router: ThoughtRouter) -> ThoughtRouter:
    """The router whose logits have the mean 0 of every query: it routes alike.

    A softmax does not tell how high all logits are together, so that this is whatever training
    happened to leave; the calibration of scores compares queries by it.
    """
    with torch.no_grad():
        for each in (router.outer.weight, router.outer.bias):
            each.sub_(each.mean(dim=0))
    return router
