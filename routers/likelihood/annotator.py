"""Asks experts how likely they find a query's text, token by token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from composer.types import Annotation, Ask, Completion, Message, Request, Sampling

if TYPE_CHECKING:
    from composer.protocols import Flow
    from composer.types import Outcome, Query

BEFORE = (Message("user", "Write a question or a task that a user could give to an assistant."),)
"""What the query is scored as the answer to, in each expert's own chat template.

Many templates cannot do without a message, and an empty one surprises base models. Measured on 24
queries, the gap between two experts correlates with their gap given no message at all by 0.88 after
this turn, and by 0.81 after an empty one.
"""


def score_text(query: Query, experts: Sequence[str]) -> Flow[Annotation]:
    """Ask experts for the likelihood of a query's text: one prefill each, nothing is generated.

    Returns:
        `nats_per_byte` {expert: negative log-likelihood by the byte of UTF-8}; and `failures`
        {expert: why it has none}.
    """
    requests = tuple(
        Request(
            f"{query.id}/annotate/likelihood/{expert}",
            expert,
            BEFORE,
            Sampling(max_tokens=1, n=1),
            continuation=query.text,
            purpose="annotate",
        )
        for expert in experts
    )
    outcomes = yield Ask(requests)
    n_bytes = len(query.text.encode())
    nats = {outcome.expert: _nats(outcome) for outcome in outcomes}
    return Annotation(
        {
            "nats_per_byte": {e: n / n_bytes for e, n in nats.items() if isinstance(n, float)},
            "failures": {e: why for e, why in nats.items() if isinstance(why, str)},
        }
    )


def nats_per_byte(annotation: Annotation | None) -> Mapping[str, float]:
    """Of a query's text, by expert; those are missing that are not known."""
    return _recorded(annotation, "nats_per_byte")


def likelihood_failures(annotation: Annotation | None) -> Mapping[str, str]:
    """Why experts have no likelihood of a query's text."""
    return _recorded(annotation, "failures")


def _nats(outcome: Outcome) -> float | str:
    """Of the whole text, or why they are not known."""
    if not isinstance(outcome, Completion):
        return outcome.message
    logprobs = outcome.samples[0].logprobs
    nats = -sum(token.logprob for token in logprobs or ())
    return float(nats) if logprobs and math.isfinite(nats) else "it gave no log-probabilities"


def _recorded(annotation: Annotation | None, key: str) -> Mapping[str, Any]:
    return {} if annotation is None else annotation.values.get(key, {})
