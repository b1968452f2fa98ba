"""The ensemble over tokens: experts that one engine holds write one text together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.aggregators.ensemble.posterior import running_posterior, uniform_prior
from composer.errors import AggregationError
from composer.flow import ask_one, describe_failures
from composer.protocols import Flow, Tools
from composer.types import Answer, Completion, Failure, Query, Request, Selection


def mix_tokens(
    name: str, query: Query, selection: Selection, experts: Sequence[str], tools: Tools
) -> Flow[Answer]:
    """Let the experts write one text; where they cannot, the ranking answers one by one.

    The prior is uniform. The engine draws every token from the average of the experts'
    distributions, weighed by their posterior given the tokens before it, and tells each expert's
    log-probabilities beside the text; the posterior at its end is read from these.

    Source: see the module `posterior`. Deviations: the posterior is over the tokens of
    the answer alone, the prompt has no part in it; all experts are computed, as in the source's
    code, those of hardly any weight too.

    Args:
        name: The aggregator's.
        query: What is answered.
        selection: Whose ranking is walked if the mixture fails.
        experts: Those that write, best-ranked first; one engine holds them.
        tools: The driver's.

    Raises:
        AggregationError: The mixture failed, and so did each expert of the ranking alone.
    """
    lead, *peers = experts
    request = Request(
        f"{query.id}/aggregate/{lead}",
        lead,
        query.messages,
        logprobs=0,
        peers=tuple(peers),
        mix="average" if peers else None,
        final=True,
        purpose="aggregate",
    )
    outcome = yield from ask_one(request, tools)
    if isinstance(outcome, Completion):
        prior = dict(zip(experts, uniform_prior(len(experts)), strict=True))
        weights = _posterior(outcome, experts)
        reason = f"{len(experts)} experts wrote it together, token by token"
        details = {"level": "token", "prior": prior, "weights": weights}
        return _answer(name, query, outcome, reason, details, ())
    failures = [outcome]
    for expert in selection.ranking:
        alone = Request(f"{query.id}/propose/{expert}", expert, query.messages, final=True)
        outcome = yield from ask_one(alone, tools)
        if isinstance(outcome, Completion):
            reason = f"{expert} wrote it alone, because the mixture failed: {failures[0].message}"
            details = {"level": "none", "prior": {}, "weights": {expert: 1.0}}
            return _answer(name, query, outcome, reason, details, failures)
        failures.append(outcome)
    raise AggregationError(f"no expert answered: {describe_failures(failures)}")


def _posterior(completion: Completion, experts: Sequence[str]) -> Mapping[str, float]:
    """The weights of the experts that have read the whole text."""
    if len(experts) == 1:
        return {experts[0]: 1.0}
    _, *scored = completion.samples
    logprobs = [[token.logprob for token in sample.logprobs or ()] for sample in scored]
    after = running_posterior(uniform_prior(len(experts)), logprobs)[-1]
    return dict(zip(experts, after, strict=True))


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
