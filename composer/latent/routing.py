"""Who takes part in a mixture of thoughts, and who of them writes: a small network that is trained.

n prompts, e the width of their embeddings, M experts, K of them active:

    embeddings z [n, e] --centred, scaled--> MLP --> logits s [n, M]
    the K largest logits are the active experts, and the largest of all is the primary

In training Gumbel noise is added to the logits first, so that others are tried as well, and each
choice comes with straight-through weights: 1 for the chosen, 0 for the others, exactly, while the
gradient is that of the softmax. A peer's weight [B] is meant to multiply its values [B, H, S, d/H]
(`composer.latent.interaction.Memory.values`), which changes no number on the way forward and tells
the router on the way back whether the primary would rather have heard more of that peer. Who
should write is learned by `composer.latent.routing_losses.choice_loss`.

Source: Mixture of Thoughts (arXiv 2509.21164): a frozen sentence encoder, an MLP, top-K with the
largest as the primary, Gumbel noise and straight-through gradients. The estimate is that of Jang et
al. (arXiv 1611.01144), section 2.2; that the K largest of perturbed logits are K draws without
replacement, Kool et al. (arXiv 1903.06059). The paper's sizes and temperature could not be read;
those here are ours, and so is that the gradient of every membership is one softmax's.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.protocols import Encoder

HIDDEN = 128
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """Whom n prompts were given to."""

    logits: Tensor
    """[n, M], without noise."""
    perturbed: Tensor
    """[n, M], with the noise that they were chosen by; outside of training the same."""
    primaries: Tensor
    """[n] int64."""
    active: Tensor
    """[n, K] int64, distinct: the primary, then its peers, the likeliest first."""
    weights: Tensor
    """Of taking part, [n, M]: 1 for the active, 0 for the others; the gradient is a softmax's, over
    all but the one that alone may write."""
    writing: Tensor
    """Of being the primary, [n, M]: 1 for that and 0 for the others; the gradient in the same way,
    by a softmax over those that may write."""
    writers: tuple[int, ...]
    """The experts that may be the primary."""


class ThoughtRouter(nn.Module):
    """The network: embeddings to logits."""

    center: Tensor
    scale: Tensor

    def __init__(
        self, dimension: int, experts: int, *, hidden: int = HIDDEN, seed: int = 0
    ) -> None:
        """Make it, untrained; all experts are nearly alike to it.

        Args:
            dimension: e.
            experts: M.
            hidden: Width of the hidden layer.
            seed: Of the first weights; nobody else's random numbers are drawn from.
        """
        super().__init__()
        self.dimension, self.experts, self.hidden = dimension, experts, hidden
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("scale", torch.tensor(math.sqrt(dimension)))
        # On no device they have no weights yet, so none is drawn from torch's own generator.
        self.inner = nn.Linear(dimension, hidden, device="meta").to_empty(device="cpu")
        self.outer = nn.Linear(hidden, experts, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        for layer, size in ((self.inner, 1.0), (self.outer, 0.1)):
            deviation = size / math.sqrt(layer.in_features)
            nn.init.normal_(layer.weight, std=deviation, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits [n, M] of embeddings [n, e]."""
        z = (embeddings.to(self.center.dtype) - self.center) * self.scale
        return self.outer(functional.gelu(self.inner(z)))

    def settle(self, embeddings: Tensor) -> None:
        """Measure from now on from the mean of these, [n, e], and in their deviation.

        Embeddings of texts lie close together; to be called before training, or never.
        """
        self.center.copy_(embeddings.mean(dim=0))
        spread = (embeddings - self.center).square().mean().sqrt()
        self.scale.copy_(1 / spread.clamp(min=_LEAST_SPREAD))

    def choose(
        self,
        embeddings: Tensor,
        k: int,
        *,
        temperature: float = 1.0,
        writers: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Routing:
        """Whom to give prompts to; noise is added in training (`train`) alone.

        Args:
            embeddings: [n, e].
            k: K.
            temperature: See `choose`.
            writers: See `choose`.
            generator: What noise is drawn from; None: torch's own.
        """
        logits = self(embeddings)
        noise = gumbel(logits, generator) if self.training else None
        return choose(logits, k, noise=noise, temperature=temperature, writers=writers)

    def described(self) -> dict[str, Any]:
        """Its shape, JSON values: what it is made of again, beside its weights."""
        return {"dimension": self.dimension, "experts": self.experts, "hidden": self.hidden}


def choose(
    logits: Tensor,
    k: int,
    *,
    noise: Tensor | None = None,
    temperature: float = 1.0,
    writers: Sequence[int] | None = None,
) -> Routing:
    """The k experts of the largest logits, and the largest of all as the primary.

    Args:
        logits: [n, M]. Of equal ones any may be chosen.
        k: K, from 1 to M.
        noise: What is added to them first, [n, M]; None: nothing.
        temperature: Of the softmax whose gradient the weights have.
        writers: Numbers of the experts that may be the primary, which then is the largest of
            them, and its peers are the k - 1 largest of all others; None: all.

    Raises:
        ConfigError: k is out of its range, the temperature is not above 0, or nobody may write.
    """
    n_experts = logits.shape[1]
    may_write = tuple(range(n_experts)) if writers is None else tuple(sorted(set(writers)))
    if not 1 <= k <= n_experts:
        raise ConfigError(f"{k} of {n_experts} experts cannot be active; give 1 to {n_experts}")
    if not temperature > 0:
        raise ConfigError(f"'temperature' is {temperature!r}; give a number above 0")
    if not set(may_write) & set(range(n_experts)) == set(may_write) or not may_write:
        raise ConfigError(f"writers {list(may_write)} are none of {n_experts} experts; name some")
    perturbed = logits if noise is None else logits + noise
    # Who always writes is no choice, and has no share in that of peers.
    sole = torch.zeros(n_experts, dtype=torch.bool, device=logits.device)
    sole[list(may_write) if len(may_write) == 1 < n_experts else []] = True
    silent = torch.ones(n_experts, dtype=torch.bool, device=logits.device)
    silent[list(may_write)] = False
    written = perturbed.masked_fill(silent, -math.inf)
    primaries = written.argmax(dim=1)
    others = perturbed.detach().scatter(1, primaries[:, None], -math.inf)
    active = torch.cat((primaries[:, None], others.topk(k - 1, dim=1).indices), dim=1)
    return Routing(
        logits,
        perturbed,
        primaries,
        active,
        _straight_through(
            active, (perturbed.masked_fill(sole, -math.inf) / temperature).softmax(dim=1)
        ),
        _straight_through(primaries[:, None], (written / temperature).softmax(dim=1)),
        may_write,
    )


def gumbel(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of that shape, type and device; the generator is of that device."""
    draws = torch.empty_like(like, requires_grad=False).exponential_(generator=generator)
    return -draws.clamp(min=torch.finfo(draws.dtype).tiny).log()


def embedded(encoder: Encoder, prompts: Sequence[str]) -> Tensor:
    """Embeddings [n, e] of prompts by the encoder that the router is trained beside."""
    return torch.from_numpy(encoder.encode(prompts))


def _straight_through(chosen: Tensor, shares: Tensor) -> Tensor:
    """1 for the chosen [n, K] of [n, M] experts, and 0; the gradient is that of the shares."""
    # In this order it is exact: a number minus itself is 0.
    return torch.zeros_like(shares).scatter(1, chosen, 1.0) + (shares - shares.detach())
