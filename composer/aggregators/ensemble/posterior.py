"""The domain posterior: how much an expert counts, by Bayes' rule in log space.

    p(x_t | x_<t)   = sum_j p(x_t | x_<t, D=j) p(D=j | x_<t)
    p(D=j | x_<t)  ~= prior_j * prod_{i<t} p(x_i | x_<i, D=j)

over experts j = 1..m, each taken to be the model of its own domain D=j.

Source: Li et al., "Branch-Train-Merge" (arXiv 2208.03306), sections 2 and 3, after Gururangan et
al., "DEMix Layers" (arXiv 2108.05036), section 5; github.com/hadasah/btm at 529b0f1. Deviations:
the posterior is that of the whole text so far, as the papers write it, where the released scorer
weighs by the single token before; and a likelihood may be tempered, since the tokens of a text are
far from being as many independent witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Weights = tuple[float, ...]
"""One for each expert, in [0, 1], summing to 1."""

BLOCK_SHARE = 0.3
"""What the newest block counts in an updating prior, as in the source."""


def normalised(weights: Sequence[float]) -> Weights:
    """The weights, of which one at least is positive, divided by their sum."""
    top = max(weights)
    total = math.fsum(weight / top for weight in weights)
    return tuple(weight / top / total for weight in weights)


def uniform_prior(m: int) -> Weights:
    """Every expert counts alike."""
    return (1 / m,) * m


def update_prior(prior: Weights, posterior: Weights, share: float = BLOCK_SHARE) -> Weights:
    """The updating prior after one more block: an exponential moving average of posteriors.

    Aggregators keep nothing between queries: it is run when a prior is fitted, by `cached_prior`.

    Args:
        prior: Before the block.
        posterior: Of the block, at its last token.
        share: What the block counts, in [0, 1].
    """
    return tuple((1 - share) * a + share * b for a, b in zip(prior, posterior, strict=True))


def cached_prior(posteriors: Sequence[Weights], share: float = BLOCK_SHARE) -> Weights:
    """The updating prior after all blocks, to be kept; it starts as the first block's posterior."""
    prior = posteriors[0]
    for posterior in posteriors[1:]:
        prior = update_prior(prior, posterior, share)
    return prior


def largest(prior: Sequence[float], k: int) -> tuple[int, ...]:
    """Numbers of the k experts of largest prior, in their order; of equals the first."""
    ordered = sorted(range(len(prior)), key=lambda j: -prior[j])
    return tuple(sorted(ordered[:k]))


def softmax(scores: Sequence[float]) -> Weights:
    """Weights in the ratio of exp(score); -inf is 0, and one score at least is finite."""
    top = max(scores)
    return normalised([math.exp(score - top) for score in scores])


def domain_posterior(
    prior: Sequence[float], log_likelihoods: Sequence[float], tau: float = 1.0
) -> Weights:
    """The weights of experts that have read a text.

    Args:
        prior: Before it, [m]; need not sum to 1, 0 stays 0.
        log_likelihoods: Of the whole text under each expert, in nats [m].
        tau: How much of the likelihood counts, in [0, 1]; 1 is Bayes' rule.
    """
    return softmax(
        [
            (math.log(p) if p else -math.inf) + (tau * nats if tau else 0.0)
            for p, nats in zip(prior, log_likelihoods, strict=True)
        ]
    )


def running_posterior(
    prior: Sequence[float], logprobs: Sequence[Sequence[float]], tau: float = 1.0
) -> tuple[Weights, ...]:
    """The weights before the first token, and after each of t tokens: t + 1 of them.

    Args:
        prior: Before the text, [m].
        logprobs: Of the text's tokens under each expert, in nats [m, t].
        tau: See `domain_posterior`.
    """
    sums = [0.0] * len(prior)
    weights = [domain_posterior(prior, sums, tau)]
    for token in zip(*logprobs, strict=True):
        sums = [total + logprob for total, logprob in zip(sums, token, strict=True)]
        weights.append(domain_posterior(prior, sums, tau))
    return tuple(weights)


def mixture(weights: Sequence[float], distributions: Sequence[Sequence[float]]) -> Weights:
    """One distribution [v] of those [m, v] of m experts."""
    return tuple(
        math.fsum(w * p for w, p in zip(weights, column, strict=True))
        for column in zip(*distributions, strict=True)
    )
