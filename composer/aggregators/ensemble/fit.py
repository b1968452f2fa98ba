"""The cached prior of an ensemble, learned from how likely experts found recorded queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.aggregators.ensemble.ensemble import EnsembleAggregator
from composer.aggregators.ensemble.posterior import (
    Weights,
    cached_prior,
    domain_posterior,
    uniform_prior,
)
from composer.aggregators.saved import save_learned
from composer.errors import ConfigError

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable

BLOCK_BYTES = 4096
"""Of UTF-8 in a block at least: about the 1,024 tokens of the source's blocks."""
FLOOR = 1e-6
"""The least prior: an expert that never counted is still no impossible one."""


class FittedEnsemble(EnsembleAggregator):
    """An ensemble whose prior was learned."""

    def __init__(self, prior: Mapping[str, float], summary: Mapping[str, Any]) -> None:
        super().__init__(prior=dict(prior))
        self._learned = dict(prior)
        self.summary = dict(summary)
        """See `FittedAggregator.summary`."""

    def save(self, folder: Path) -> None:
        """See `FittedAggregator.save`."""
        save_learned(folder, self.name, {"prior": self._learned})


def fit_ensemble(table: OutcomeTable, *, tau: float = 0.01) -> FittedEnsemble:
    """The prior after the posteriors of all blocks of the table's queries.

    The queries, in the order of their ids, make blocks of `BLOCK_BYTES` or more; those that not all
    experts scored are left out.

    Source: the cached prior of Branch-Train-Merge (see the module `posterior`): an
    exponential moving average of posteriors over 100 development blocks. Deviations: a block is
    made of whole queries; all there are count; each block's posterior starts from a uniform prior
    and is tempered, for otherwise the first block's best expert takes nearly all for good.

    Args:
        table: With the likelihoods that `composer profile --annotate likelihood` records.
        tau: How much of a block's log-likelihood counts, above 0 and up to 1.

    Raises:
        ConfigError: No query has the likelihoods of all experts, or `tau` is out of range.
    """
    if not 0 < tau <= 1:
        raise ConfigError(f"aggregator 'ensemble': 'tau' is {tau}; set it above 0 and up to 1")
    blocks = _blocks(table)
    if not blocks:
        raise ConfigError(
            "aggregator 'ensemble': no query has the likelihoods of all experts; "
            "profile with --annotate likelihood"
        )
    posteriors: list[Weights] = [
        domain_posterior(uniform_prior(len(table.names)), nats, tau) for nats in blocks
    ]
    prior = [max(weight, FLOOR) for weight in cached_prior(posteriors)]
    by_name = {
        name: weight / math.fsum(prior) for name, weight in zip(table.names, prior, strict=True)
    }
    return FittedEnsemble(by_name, {"blocks": len(blocks), "tau": tau, "prior": by_name})


def _blocks(table: OutcomeTable) -> Sequence[Sequence[float]]:
    """Log-likelihoods of blocks of text under each expert, in nats."""
    blocks: list[list[float]] = []
    n_bytes = BLOCK_BYTES
    for query in sorted(table.queries, key=lambda query: query.id):
        rates: Mapping[str, float] = {}
        if query.annotation is not None:
            rates = query.annotation.values.get("nats_per_byte", {})
        if any(name not in rates for name in table.names):
            continue
        if n_bytes >= BLOCK_BYTES:
            blocks.append([0.0] * len(table.names))
            n_bytes = 0
        size = len(query.prompt.encode())
        n_bytes += size
        for j, name in enumerate(table.names):
            blocks[-1][j] -= rates[name] * size
    return blocks
