"""The ensemble over answers: experts of any vocabularies score the same few answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.aggregators.ensemble.posterior import domain_posterior, mixture, normalised, softmax
from composer.aggregators.ensemble.reading import log_likelihood, read_query, score_answer
from composer.answers import completion_answer
from composer.errors import AggregationError
from composer.flow import ask_many, describe_failures
from composer.protocols import Flow, Tools
from composer.types import (
    Answer,
    AnswerType,
    Completion,
    Failure,
    Outcome,
    Query,
    Request,
)

OWN_WORDS: frozenset[AnswerType] = frozenset({"text", "json", "code"})
"""Types whose answer is an expert's whole text, not only what is read from it."""

Prior = Mapping[str, float]
"""By expert, best-ranked first."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One answer that experts may find likely."""

    text: str
    """What is scored, and answered."""
    proposers: tuple[Completion, ...] = ()
    """Best-ranked first; none where the options were given."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """What those experts said that scored everything."""

    weights: Mapping[str, float]
    by_expert: Mapping[str, tuple[float, ...]]
    """Each one's distribution over the options."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerLevel:
    """Averages experts' distributions over answers.

        p_j(a) ~= exp(log p_j(a | query) / bytes(a))      p(a) = sum_j w_j p_j(a)
        w_j    ~= prior_j * exp(tau * log p_j(the query's text))

    The answers are options that were given, or those that the experts propose; where all propose
    the same there is nothing to score. An expert that fails once is left out altogether. Of equally
    likely answers the first wins: as they were given, or as their best proposers rank.

    Source: see the module `posterior`. Deviations: the distribution is over whole answers
    and not over the next token, so vocabularies may differ; likelihoods of answers are by the byte
    of UTF-8, as answers differ in length and vocabularies in how they cut them; the query's
    likelihood is tempered by `tau`, and nobody is asked for it unless told to.
    """

    name: str
    answer_type: AnswerType
    options: tuple[str, ...] | None
    tau: float

    def combine(self, query: Query, prior: Prior, tools: Tools) -> Flow[Answer]:
        """Ask the experts of the prior and average what they say.

        Raises:
            AggregationError: No expert proposed an answer of the type, or scored those given.
        """
        failures: list[Failure] = []
        silent: tuple[str, ...] = ()
        options = tuple(_Option(text) for text in self.options or ())
        if self.options is None:
            requests = [Request(f"{query.id}/propose/{e}", e, query.messages) for e in prior]
            outcomes = yield from ask_many(requests, tools)
            failures += [o for o in outcomes if isinstance(o, Failure)]
            options, silent = _read(outcomes, query.answer_type or self.answer_type)
        failed = {failure.expert for failure in failures}
        left = {expert: weight for expert, weight in prior.items() if expert not in failed}
        if len(options) == 1:
            weights = normalised(list(left.values()))
            scores = _Scores(dict(zip(left, weights, strict=True)), dict.fromkeys(left, (1.0,)))
        else:
            scores = yield from self._score(query, options, left, tools)
            failures += scores.failures
        shares = mixture(list(scores.weights.values()), list(scores.by_expert.values()))
        if not shares and self.options is not None:
            raise AggregationError(f"no expert scored the options: {_first_of_each(failures)}")
        best = max(range(len(shares)), key=lambda i: shares[i], default=0)
        expert, finish_reason = _author(options[best], best, scores)
        return Answer(
            query_id=query.id,
            text=options[best].text,
            expert=expert,
            aggregator=self.name,
            finish_reason=finish_reason,
            reason=_reason(options, shares, len(left), scores),
            details={
                "level": "answer",
                "shares": {option.text: p for option, p in zip(options, shares, strict=False)},
                "weights": dict(scores.weights),
                "prior": dict(prior),
                "by_expert": dict(scores.by_expert),
                "abstained": silent,
                "failed": tuple(dict.fromkeys(failure.expert for failure in failures)),
            },
            failures=tuple(failures),
        )

    def _score(
        self, query: Query, options: Sequence[_Option], prior: Prior, tools: Tools
    ) -> Flow[_Scores]:
        requests = [
            score_answer(query, expert, option.text, i)
            for expert in prior
            for i, option in enumerate(options, start=1)
        ]
        if self.tau and query.text:
            requests += [read_query(query, expert) for expert in prior]
        said = [log_likelihood(outcome) for outcome in (yield from ask_many(requests, tools))]
        failures = tuple(s for s in said if isinstance(s, Failure))
        left_out = {failure.expert for failure in failures}
        nats: dict[str, list[float]] = {e: [] for e in prior if e not in left_out}
        for request, value in zip(requests, said, strict=True):
            if request.expert in nats and not isinstance(value, Failure):
                nats[request.expert].append(value)
        if not nats:
            return _Scores({}, {}, failures)
        n_bytes = [len(option.text.encode()) for option in options]
        by_expert = {
            expert: softmax([of / n for of, n in zip(values, n_bytes, strict=False)])
            for expert, values in nats.items()
        }
        # The query's text comes after the options; where nobody read it, all find it alike.
        read = [sum(values[len(options) :]) for values in nats.values()]
        weights = domain_posterior([prior[e] for e in nats], read, self.tau)
        return _Scores(dict(zip(nats, weights, strict=True)), by_expert, failures)


def _read(
    outcomes: Sequence[Outcome], answer_type: AnswerType
) -> tuple[tuple[_Option, ...], tuple[str, ...]]:
    """The answers in the order of their best-ranked proposers, and who gave none of the type."""
    proposers: dict[str, list[Completion]] = {}
    silent: list[str] = []
    for completion in outcomes:
        if isinstance(completion, Completion):
            answer = completion_answer(completion.samples[0], answer_type)
            if answer is None:
                silent.append(completion.expert)
            else:
                proposers.setdefault(answer, []).append(completion)
    if not proposers:
        failures = [o for o in outcomes if isinstance(o, Failure)]
        parts = [describe_failures(failures), *(f"{e}: gave no such answer" for e in silent)]
        why = "; ".join(filter(None, parts))
        raise AggregationError(f"no expert proposed an answer of type {answer_type!r}: {why}")
    options = (
        _Option(of[0].text if answer_type in OWN_WORDS else answer, tuple(of))
        for answer, of in proposers.items()
    )
    return tuple(options), tuple(silent)


def _author(option: _Option, number: int, scores: _Scores) -> tuple[str, str]:
    """Who gets the credit for an answer, and how its text ended."""
    if option.proposers:
        return option.proposers[0].expert, option.proposers[0].samples[0].finish_reason
    of = {e: w * scores.by_expert[e][number] for e, w in scores.weights.items()}
    return max(of, key=lambda expert: of[expert]), "stop"


def _reason(
    options: Sequence[_Option], shares: Sequence[float], n_left: int, scores: _Scores
) -> str:
    if not shares:
        why = _first_of_each(scores.failures)
        return f"the best-ranked proposal, because no expert scored the answers: {why}"
    if len(options) == 1:
        return f"all that answered agree: {len(options[0].proposers)} of {n_left} experts"
    names = ", ".join(scores.weights)
    return f"{max(shares):.2f} of the probability of {len(options)} answers, by {names}"


def _first_of_each(failures: Sequence[Failure]) -> str:
    """Each expert's first failure, in a few words."""
    first: dict[str, Failure] = {}
    for failure in failures:
        first.setdefault(failure.expert, failure)
    return describe_failures(tuple(first.values()))
