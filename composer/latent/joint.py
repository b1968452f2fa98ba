"""The router of a group while both are trained: whom it gives rows to, and what it learns of it.

One step: the router draws who takes part in each row of the batch; rows are read by them, each
peer's values multiplied by its straight-through weight, which is 1; then

    gradient of the router = that of the language-model loss in those weights
                           + that of the terms of `composer.latent.routing_losses`

Source: Mixture of Thoughts (arXiv 2509.21164): router and interaction have one joint objective.
Deviation: a term tells the router who should write, see `choice_loss`.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.recipe import Recipe
from composer.latent.routing import Routing, ThoughtRouter, embedded
from composer.latent.routing_losses import Baseline, RoutingWeights, routing_loss
from composer.latent.rows import Row
from composer.latent.settings import LatentSettings, check_choice
from composer.latent.study import Who

if TYPE_CHECKING:
    from composer.protocols import Encoder

Terms = dict[str, float]
"""What the router was taught at a step: each term before its weight, and `baseline`."""
_STRIDE = 1_000_003
"""Between the seeds of runs, whose steps have seeds of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Who takes part in the rows of a step."""

    routing: Routing
    again: Routing
    """The same rows under other noise."""
    who: tuple[Who, ...]
    """Of each row."""
    weights: Tensor
    """Of taking part, [n, M]; what is read by them leaves its gradient here."""


@dataclass(frozen=True, slots=True, eq=False)
class JointRouter:
    """A router, and the rows that it is trained on together with an interaction."""

    network: ThoughtRouter
    embeddings: Tensor
    """Of the rows, [n, e]."""
    writers: tuple[int, ...]
    """Numbers of the experts that may write."""
    k: int
    """Experts that take part at a time."""
    recipe: Recipe

    @property
    def weights(self) -> RoutingWeights:
        """Of the terms."""
        one = self.recipe
        return RoutingWeights(one.entropy, one.balance, one.consistency, one.choice)

    def draw(self, rows: Sequence[int], step: int) -> Draw:
        """Whom a step's rows are given to: the same for the same step, whatever was before."""
        generator = torch.Generator().manual_seed(self.recipe.seed * _STRIDE + step)
        self.network.train()
        routing, again = (
            self.network.choose(
                self.embeddings[list(rows)],
                self.k,
                temperature=self.recipe.temperature,
                writers=self.writers,
                generator=generator,
            )
            for _ in range(2)
        )
        weights = routing.weights.detach().requires_grad_()
        return Draw(routing, again, _who(routing), weights)

    def backward(self, drawn: Draw, losses: Sequence[float], before: Terms | None) -> Terms:
        """Add the gradients of the router's weights.

        Args:
            drawn: Its weights have the gradient of the language-model loss.
            losses: Of each row the nats of an answer's token.
            before: Terms of the step before; None: there was none.
        """
        found = torch.tensor(losses)
        baseline = Baseline(None if before is None else before["baseline"])
        baseline = baseline.after(found) if baseline.mean is None else baseline
        assert baseline.mean is not None, "it has seen a batch"
        total, terms = routing_loss(
            drawn.routing,
            drawn.again,
            self.weights,
            losses=found,
            baseline=baseline.mean,
        )
        if drawn.weights.grad is not None:
            total = total + (drawn.routing.weights * drawn.weights.grad).sum()
        total.backward()
        after = baseline.after(found).mean
        assert after is not None, "it has seen a batch"
        return {**terms, "baseline": after}


def make_joint(
    embeddings: Tensor,
    writers: Sequence[int],
    n_experts: int,
    settings: LatentSettings,
    recipe: Recipe,
) -> JointRouter:
    """A router that is to be trained on rows, given as `embed_rows` embeds them: [n, e].

    Raises:
        ConfigError: It has nothing to choose.
    """
    check_choice(settings, n_experts, len(writers))
    k = n_experts if settings.active is None else settings.active
    network = ThoughtRouter(
        embeddings.shape[1], n_experts, hidden=recipe.router_hidden, seed=recipe.seed
    )
    network.settle(embeddings)
    return JointRouter(network, embeddings, tuple(writers), k, recipe)


@torch.no_grad()
def chosen(
    network: ThoughtRouter, embeddings: Tensor, k: int, writers: Sequence[int]
) -> tuple[Who, ...]:
    """Who takes part in each row, without noise: as when queries are asked."""
    return _who(network.eval().choose(embeddings, k, writers=writers))


def embed_rows(encoder: Encoder, rows: Sequence[Row]) -> Tensor:
    """Embeddings of rows' last user messages, as routers embed queries, [n, e].

    Raises:
        ConfigError: A row says who takes part, so that nothing is left to choose.
    """
    for row in rows:
        if row.experts:
            raise ConfigError(
                f"{row.where}: names experts {list(row.experts)}, whom the router is to choose; "
                "leave 'experts' out, or train without a router"
            )
    return embedded(encoder, [_text(row) for row in rows])


def _text(row: Row) -> str:
    return next((m.content for m in reversed(row.messages) if m.role == "user"), "")


def _who(routing: Routing) -> tuple[Who, ...]:
    """The primary, and its peers by their numbers: whoever is heard first is heard alike."""
    active: list[list[int]] = routing.active.tolist()
    return tuple((primary, *sorted(peers)) for primary, *peers in active)
