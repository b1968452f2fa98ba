"""The selected experts propose, and one expert writes the answer from their proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.errors import AggregationError, ConfigError
from composer.experts import Expert
from composer.flow import ask_many, ask_one, describe_failures
from composer.prompts import inject_references
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.types import (
    DEFAULT_SAMPLING,
    Answer,
    Completion,
    Failure,
    Message,
    Query,
    Request,
    Selection,
)

SHORTEST_REFERENCE = 40
"""Characters; where not even this much of each proposal fits, there is nothing to synthesise."""


class SynthesisAggregator:
    """One layer of a Mixture-of-Agents.

    A proposer that fails or says nothing is left out. Where the aggregating expert fails, the
    best-ranked proposal is the answer, and its `reason` and `details` say so.

    Source: Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities"
    (arXiv 2406.04692), section 2.2, and togethercomputer/MoA. Deviations: there is one layer of
    proposers; they sample as their own settings say, not at temperature 0.7; and proposals are
    shortened, the longest first, to what the aggregating expert's context holds.
    """

    name = "synthesis"
    needs: frozenset[AggregatorNeed] = frozenset()

    def __init__(self, *, by: str | None = None, max_reference_tokens: int | None = None) -> None:
        """Store the settings.

        Args:
            by: The expert that aggregates; None: the best-ranked proposer, which is the
                selection's first choice unless that failed.
            max_reference_tokens: What the prompt may grow by, in the aggregating expert's tokens;
                None: to what its context holds beside the answer.

        Raises:
            ConfigError: `max_reference_tokens` is not positive.
        """
        if max_reference_tokens is not None and max_reference_tokens < 1:
            raise ConfigError(
                f"aggregator 'synthesis': 'max_reference_tokens' is {max_reference_tokens}; "
                "set 1 or more, or leave it out"
            )
        self.experts = frozenset[str]() if by is None else frozenset({by})
        self._by = by
        self._max_reference_tokens = max_reference_tokens

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`: there is nothing to refuse."""

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        requests = [
            Request(f"{query.id}/propose/{choice.expert}", choice.expert, query.messages)
            for choice in selection.choices
        ]
        outcomes = yield from ask_many(requests, tools)
        completions = [o for o in outcomes if isinstance(o, Completion)]
        failures = [o for o in outcomes if isinstance(o, Failure)]
        proposals = [c for c in completions if c.text.strip()]
        silent = tuple(c.expert for c in completions if not c.text.strip())
        if not proposals:
            parts = [describe_failures(failures), *(f"{e}: said nothing" for e in silent)]
            raise AggregationError(f"no expert proposed anything: {'; '.join(filter(None, parts))}")
        by = self._by or proposals[0].expert
        outcome = yield from self._aggregate(query, by, proposals, tools)
        details = {
            "by": by,
            "proposers": tuple(c.expert for c in proposals),
            "silent": silent,
            "failed": tuple(f.expert for f in failures),
            "synthesised": isinstance(outcome, Completion),
        }
        if isinstance(outcome, Completion):
            chosen, reason = outcome, f"{by} synthesised {len(proposals)} proposals"
        else:
            failures.append(outcome)
            chosen = proposals[0]
            reason = f"the best-ranked proposal, because {by} failed: {outcome.message}"
        return Answer(
            query_id=query.id,
            text=chosen.text,
            expert=chosen.expert,
            aggregator=self.name,
            finish_reason=chosen.samples[0].finish_reason,
            reason=reason,
            details=details,
            failures=tuple(failures),
        )

    def _aggregate(
        self, query: Query, by: str, proposals: Sequence[Completion], tools: Tools
    ) -> Flow[Completion | Failure]:
        request_id = f"{query.id}/aggregate/{by}"
        budget = self._budget(by, query.messages, tools)
        texts = [p.text.strip() for p in proposals]
        messages = _fit(query.messages, texts, by, budget, tools)
        if messages is None:
            return Failure(
                request_id,
                by,
                "too_long",
                f"{len(proposals)} proposals do not fit into {budget} prompt tokens of {by!r}; "
                "name an aggregating expert with a longer context or choose fewer experts",
            )
        request = Request(request_id, by, messages, final=True, purpose="aggregate")
        return (yield from ask_one(request, tools))

    def _budget(self, by: str, messages: Sequence[Message], tools: Tools) -> int | None:
        """Tokens that the aggregating prompt may have; None: no bound is known."""
        bounds: list[int] = []
        if (limit := tools.limit(by)) is not None:
            bounds.append(max(0, limit - (DEFAULT_SAMPLING.max_tokens or 0)))
        if self._max_reference_tokens is not None:
            bounds.append(tools.count(by, messages) + self._max_reference_tokens)
        return min(bounds, default=None)


def _fit(
    messages: Sequence[Message], texts: Sequence[str], by: str, budget: int | None, tools: Tools
) -> tuple[Message, ...] | None:
    """The messages with as much of the references as fits; None: too little does.

    One length in characters bounds all references, so the longest are cut first. It is the largest
    that fits, found by bisection: a longer prompt is taken to have more tokens.
    """

    def injected(length: int) -> tuple[Message, ...]:
        return inject_references(messages, [_shorten(text, length) for text in texts])

    def fits(length: int) -> bool:
        return budget is None or tools.count(by, injected(length)) <= budget

    longest = max(map(len, texts))
    if fits(longest):
        return injected(longest)
    low, high = min(SHORTEST_REFERENCE, longest), longest
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return injected(low)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rstrip() + "..."
