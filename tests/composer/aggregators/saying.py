"""Drives a flow whose experts say something else to each request, and in each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from composer.flow import FlowRun, complete_answer
from composer.protocols import Aggregator
from composer.types import Completion, Failure, Outcome, Query, Request, Sample, Selection
from tests.composer.aggregators.conftest import CharacterTools, Ran

Say = Callable[[Request, int], str | None]
"""What is said to a request in the sample of this number, from 1; None: the request fails."""


def run_saying(
    aggregator: Aggregator,
    say: Say,
    query: Query,
    selection: Selection,
    limits: Mapping[str, int] | None = None,
) -> Ran:
    """Run the flow to its end."""
    run = FlowRun(aggregator.combine(query, selection, CharacterTools(limits or {})))
    requests = list(run.start())
    while not run.is_done:
        requests += run.deliver([_outcome(request, say) for request in run.waiting])
    outcomes = [outcome for sent in run.history for outcome in sent]
    return Ran(tuple(requests), complete_answer(run.result, selection, outcomes))


def references(request: Request) -> list[str]:
    """The references in a request, as they stand there; none where it has none."""
    content = request.messages[0].content
    return [
        block.partition("\n</reference")[0].partition(">\n")[2]
        for block in content.split("<reference ")[1:]
    ]


def _outcome(request: Request, say: Say) -> Outcome:
    texts = [say(request, number) for number in range(1, (request.sampling.n or 1) + 1)]
    samples = tuple(Sample(text, "stop", len(text)) for text in texts if text is not None)
    if not samples:
        return Failure(request.id, request.expert, "unavailable", "it is gone")
    return Completion(request.id, request.expert, samples, prompt_tokens=7)
