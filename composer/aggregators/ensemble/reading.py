"""How likely an expert finds a text: what it is asked, and what its reply says."""

from __future__ import annotations

import math

from composer.prompts import BEFORE_QUERY
from composer.types import Failure, Outcome, Query, Request, Sampling


def read_query(query: Query, expert: str) -> Request:
    """Asks an expert how likely it finds the query's text as what a user would write."""
    return Request(
        f"{query.id}/annotate/{expert}",
        expert,
        BEFORE_QUERY,
        Sampling(max_tokens=1, n=1),
        logprobs=0,
        continuation=query.text,
        purpose="annotate",
    )


def score_answer(query: Query, expert: str, text: str, number: int) -> Request:
    """Asks an expert how likely it finds a text as the answer to the query.

    Args:
        query: What is answered.
        expert: Who is asked.
        text: The answer.
        number: Of the answer, from 1.
    """
    return Request(
        f"{query.id}/judge/{expert}/{number}",
        expert,
        query.messages,
        Sampling(max_tokens=1, n=1),
        logprobs=0,
        continuation=text,
        purpose="judge",
    )


def log_likelihood(outcome: Outcome) -> float | Failure:
    """Of the whole text under the expert that read it, in nats."""
    if isinstance(outcome, Failure):
        return outcome
    nats = sum(token.logprob for token in outcome.samples[0].logprobs or ())
    if outcome.samples[0].logprobs and math.isfinite(nats):
        return nats
    reason = "it gave no finite log-probabilities"
    return Failure(outcome.request_id, outcome.expert, "bad_output", reason)
