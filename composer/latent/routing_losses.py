"""What the router of a mixture of thoughts is trained on, term by term; pure functions.

    total = entropy * L_entropy + balance * L_balance + consistency * L_consistency
          + choice * L_choice                              (and the language-model loss beside it)

Source: that Mixture of Thoughts (arXiv 2509.21164) has auxiliary losses is certain (its accuracy
without them is far lower); an entropy regulariser and a load-balancing term are described, a
consistency between two perturbed routings is likely. Neither their formulas nor their weights could
be read: each function says which formula is taken here, and from where.
"""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from composer.errors import ConfigError
from composer.latent.routing import Routing


@dataclass(frozen=True, slots=True)
class RoutingWeights:
    """What each term counts; 0: it does not.

    Raises:
        ConfigError: One is no number from 0.
    """

    entropy: float = 0.01
    balance: float = 0.01
    consistency: float = 0.01
    choice: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ConfigError(
                    f"routing weight {field.name!r} is {value!r}; give a number from 0"
                )


@dataclass(frozen=True, slots=True)
class Baseline:
    """The running mean of primaries' losses, which a loss is compared with."""

    mean: float | None = None
    """None: nothing was seen yet."""
    decay: float = 0.95
    """How much of it is left after a batch."""

    def after(self, losses: Tensor) -> Baseline:
        """The mean once these, [n], were seen as well."""
        now = float(losses.detach().mean())
        mean = now if self.mean is None else self.decay * self.mean + (1 - self.decay) * now
        return Baseline(mean, self.decay)


def entropy_loss(logits: Tensor) -> Tensor:
    """How far from even a prompt's routing is, mean of [n, M]: 0 if even, 1 if one has it all.

    It is 1 - H(softmax) / log M: nobody is to be ruled out before others were tried. Ours is the
    division by log M, by which one weight does for pools of any size.
    """
    n_experts = logits.shape[1]
    if n_experts == 1:
        return 0 * logits.sum()
    logs = logits.log_softmax(dim=1)
    entropy = -(logs.exp() * logs).sum(dim=1)
    return 1 - entropy.mean() / math.log(n_experts)


def balance_loss(weights: Tensor) -> Tensor:
    """The squared coefficient of variation of experts' loads: 0 where all have the same.

    Args:
        weights: Each prompt's weights of experts [n, M], straight-through ones or a softmax; an
            expert's load is their sum over the prompts.

    Source: Shazeer et al. (arXiv 1701.06538), section 4, equations 6 and 7. Deviation: of
    straight-through weights the load is how many prompts an expert truly got, and the gradient is
    that of its softmax, in place of one term for either. The product of both that Switch
    Transformers takes (arXiv 2101.03961, section 2.2) is not least at equal loads where the two
    differ, as they do under noise.
    """
    loads = weights.sum(dim=0)
    return loads.var(correction=0) / loads.mean().square()


def consistency_loss(one: Tensor, other: Tensor) -> Tensor:
    """The symmetric KL divergence of two routings of the same prompts, mean of [n, M] logits.

    It is 0 if and only if both give every prompt the same shares. Ours, see the module: noise is
    to change little, so that what was trained under noise is what is used without.
    """
    one, other = one.log_softmax(dim=1), other.log_softmax(dim=1)
    return 0.5 * ((one.exp() - other.exp()) * (one - other)).sum(dim=1).mean()


def choice_loss(routing: Routing, losses: Tensor, baseline: float) -> Tensor:
    """What primaries lose beyond the baseline, mean of the prompts.

    Its value is a report; its gradient makes an expert that loses less than the baseline likelier
    to be the primary, and one that loses more less so. Ours: the language-model loss alone does not
    tell the router who should write, since an expert that does not write has no loss. The estimate
    is REINFORCE (Williams 1992): under Gumbel noise the primary is a draw from the softmax of the
    logits of those that may write, so whatever the baseline is, the mean of its gradient is that of
    the expected loss. A straight-through weight in place of log p would not have that mean: where
    all lose much, it would pull towards even shares.

    Args:
        routing: Of n prompts.
        losses: The language-model loss of each prompt's primary, [n]; no gradient goes to it.
        baseline: What losses are compared with, as `Baseline.mean`.
    """
    places = [routing.writers.index(primary) for primary in routing.primaries.tolist()]
    logs = routing.logits[:, list(routing.writers)].log_softmax(dim=1)
    log = logs[range(len(places)), places]
    # 1 exactly, with the gradient of log p.
    weight = 1 + (log - log.detach())
    return (weight * (losses.detach().to(weight) - baseline)).mean()


def routing_loss(
    routing: Routing,
    again: Routing,
    weights: RoutingWeights,
    *,
    losses: Tensor | None = None,
    baseline: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """All terms, and their weighted sum.

    Balanced is who takes part; if all experts do, who writes, among those that may. Who alone may
    write is left out of it.

    Args:
        routing: What was used.
        again: The same prompts with other noise.
        weights: Of the terms.
        losses: See `choice_loss`; None: that term is left out.
        baseline: See `choice_loss`.

    Returns:
        The sum, and each term's own value before its weight, by the names of `RoutingWeights`.
    """
    terms = {
        "entropy": entropy_loss(routing.logits),
        "balance": balance_loss(_balanced(routing)),
        "consistency": consistency_loss(routing.perturbed, again.perturbed),
    }
    if losses is not None:
        terms["choice"] = choice_loss(routing, losses, baseline)
    total = torch.zeros((), device=routing.logits.device)
    for name, term in terms.items():
        # A term that is not wanted gives no gradient, not one of 0: it may not even be finite.
        if weight := getattr(weights, name):
            total = total + weight * term
    return total, {name: float(term.detach()) for name, term in terms.items()}


def _balanced(routing: Routing) -> Tensor:
    """The weights [n, ...] whose loads the router decides on."""
    n_experts, writers = routing.logits.shape[1], list(routing.writers)
    if routing.active.shape[1] == n_experts:
        return routing.writing[:, writers]
    sole = writers if len(writers) == 1 else []
    others = [expert for expert in range(n_experts) if expert not in sole]
    return routing.weights[:, others]
