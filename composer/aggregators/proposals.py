"""What proposers said: who gave something to go by, who was silent, and who failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from composer.aggregators.references import without_thinking
from composer.errors import AggregationError
from composer.flow import describe_failures
from composer.types import Answer, Completion, Failure, Outcome, Query, Sample


@dataclass(frozen=True, slots=True)
class Proposal:
    """One text that may become the answer, or a reference for whoever writes it."""

    expert: str
    sample: Sample
    """As it was said."""
    text: str
    """Without its reasoning, and not empty."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """What came of several requests, each part in the order of the requests."""

    said: tuple[Proposal, ...] = ()
    silent: tuple[str, ...] = ()
    """Experts that completed and said nothing, or nothing but reasoning."""
    failures: tuple[Failure, ...] = ()

    def require(self, at_least: int = 1) -> None:
        """Raise if they are too few.

        Raises:
            AggregationError: They are; the message names each failure and who was silent.
        """
        if len(self.said) >= at_least:
            return
        unlike = {(f.expert, f.message): f for f in self.failures}
        silent = [f"{expert}: said nothing" for expert in dict.fromkeys(self.silent)]
        why = "; ".join(filter(None, [describe_failures([*unlike.values()]), *silent]))
        if not self.said:
            raise AggregationError(f"no expert proposed anything: {why}")
        raise AggregationError(
            f"{len(self.said)} of at least {at_least} proposals ({why}); lower 'min_proposals'"
        )


def read_proposals(outcomes: Sequence[Outcome], *, samples: int | None = 1) -> Proposals:
    """The proposals among outcomes.

    Args:
        outcomes: In the order of their requests.
        samples: How many of each completion's samples to take; None: all.
    """
    said: list[Proposal] = []
    silent: list[str] = []
    for completion in outcomes:
        if isinstance(completion, Completion):
            texts = [(s, without_thinking(s.text)) for s in completion.samples[:samples]]
            found = [Proposal(completion.expert, sample, text) for sample, text in texts if text]
            said += found
            silent += [] if found else [completion.expert]
    failures = tuple(o for o in outcomes if isinstance(o, Failure))
    return Proposals(tuple(said), tuple(silent), failures)


def make_answer(
    query: Query,
    aggregator: str,
    chosen: Proposal,
    reason: str,
    details: Mapping[str, Any],
    failures: Sequence[Failure],
) -> Answer:
    """The answer that is what one expert said."""
    return Answer(
        query_id=query.id,
        text=chosen.sample.text,
        expert=chosen.expert,
        aggregator=aggregator,
        finish_reason=chosen.sample.finish_reason,
        reason=reason,
        details=details,
        failures=tuple(failures),
    )


def why_not(outcome: Outcome) -> str:
    """Why an outcome is none to go by."""
    if isinstance(outcome, Failure):
        return f"{outcome.expert} failed: {outcome.message}"
    return f"{outcome.expert} said nothing"
