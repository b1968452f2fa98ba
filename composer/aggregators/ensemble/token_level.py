"""The ensemble over tokens: experts that one engine holds write one text together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.aggregators.ensemble.posterior import domain_posterior, running_posterior
from composer.aggregators.ensemble.reading import log_likelihood, read_query
from composer.errors import AggregationError
from composer.flow import ask_many, ask_one, describe_failures
from composer.protocols import Flow, Tools
from composer.types import Answer, Completion, Failure, Query, Request, Selection

Weights = Mapping[str, float]
"""By expert, best-ranked first; they sum to 1."""


def mix_tokens(
    name: str, query: Query, selection: Selection, prior: Weights, tau: float, tools: Tools
) -> Flow[Answer]:
    """Let the experts write one text; where they cannot, the ranking answers one by one.

        p(x_t | x_<t) = sum_j w_j p_j(x_t | query, x_<t)
        w_j          ~= prior_j * exp(tau * log p_j(the query's text)) * prod_{i<t} p_j(x_i | ...)

    The engine draws every token from the average of the experts' distributions, weighed by their
    posterior given the tokens before it, and tells each expert's log-probabilities beside the text;
    the posterior at its end is read from these. An expert that cannot read the query is left out.

    Source: see the module `posterior`. Deviations: there a text has one context; here the query's
    text is read by itself, as what a user would write, since chat templates end the user's turn
    before an answer begins. That reading is tempered by `tau`, and nobody is asked for it unless
    told to, while the tokens of the answer count by Bayes' rule as they are. An expert whose weight
    rounds to 0 has no part in the text; all others are computed at each token, as in the source's
    code, those of hardly any weight too.

    Args:
        name: The aggregator's.
        query: What is answered.
        selection: Whose ranking is walked if the mixture fails.
        prior: Of the experts that write; one engine holds them.
        tau: How much of the log-likelihood of the query's text counts, in [0, 1].
        tools: The driver's.

    Raises:
        AggregationError: The mixture failed, or nobody read the query; and each expert of
            the ranking failed alone.
    """
    weights = prior
    failures: list[Failure] = []
    if tau and query.text and len(prior) > 1:
        weights, failures = yield from _read(query, prior, tau, tools)
    if experts := [expert for expert, weight in weights.items() if weight]:
        outcome = yield from ask_one(_writing(query, weights, experts), tools)
        if isinstance(outcome, Completion):
            details = {
                "level": "token",
                "prior": dict(prior),
                "weights_at_start": dict(weights),
                "weights": _posterior(outcome, weights, experts),
                "failed": tuple(failure.expert for failure in failures),
            }
            reason = f"{', '.join(experts)} wrote it together, token by token"
            if len(experts) == 1:
                reason = f"{experts[0]} wrote it, the only expert that counts"
            return _answer(name, query, outcome, reason, details, failures)
        failures.append(outcome)
        why = f"the mixture failed: {outcome.message}"
    else:
        why = f"no expert read the query: {describe_failures(failures)}"
    for expert in selection.ranking:
        alone = Request(f"{query.id}/propose/{expert}", expert, query.messages, final=True)
        outcome = yield from ask_one(alone, tools)
        if isinstance(outcome, Completion):
            reason = f"{expert} wrote it alone, because {why}"
            details = {"level": "none", "prior": {}, "weights": {expert: 1.0}}
            return _answer(name, query, outcome, reason, details, failures)
        failures.append(outcome)
    raise AggregationError(f"no expert answered: {describe_failures(failures)}")


def _read(
    query: Query, prior: Weights, tau: float, tools: Tools
) -> Flow[tuple[Weights, list[Failure]]]:
    """The weights of the experts that have read the query, and who could not."""
    requests = [read_query(query, expert) for expert in prior]
    said = [log_likelihood(outcome) for outcome in (yield from ask_many(requests, tools))]
    failures = [s for s in said if isinstance(s, Failure)]
    nats = {e: s for e, s in zip(prior, said, strict=True) if not isinstance(s, Failure)}
    if not nats:
        return {}, failures
    weights = domain_posterior([prior[e] for e in nats], list(nats.values()), tau)
    return dict(zip(nats, weights, strict=True)), failures


def _writing(query: Query, weights: Weights, experts: Sequence[str]) -> Request:
    lead, *peers = experts
    return Request(
        f"{query.id}/aggregate/{lead}",
        lead,
        query.messages,
        logprobs=0,
        peers=tuple(peers),
        mix="average" if peers else None,
        weights=tuple(weights[expert] for expert in experts) if peers else (),
        final=True,
        purpose="aggregate",
    )


def _posterior(completion: Completion, weights: Weights, experts: Sequence[str]) -> Weights:
    """The weights once the text is written; who had no part in it has none."""
    after = (1.0,)
    if len(experts) > 1:
        _, *scored = completion.samples
        logprobs = [[token.logprob for token in sample.logprobs or ()] for sample in scored]
        after = running_posterior([weights[expert] for expert in experts], logprobs)[-1]
    return {**dict.fromkeys(weights, 0.0), **dict(zip(experts, after, strict=True))}


def _answer(
    name: str,
    query: Query,
    completion: Completion,
    reason: str,
    details: Mapping[str, object],
    failures: Sequence[Failure],
) -> Answer:
    return Answer(
        query_id=query.id,
        text=completion.text,
        expert=completion.expert,
        aggregator=name,
        finish_reason=completion.samples[0].finish_reason,
        reason=reason,
        details=dict(details),
        failures=tuple(failures),
    )
