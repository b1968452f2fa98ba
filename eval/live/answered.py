"""What a composition did with one query: what it said, whom it chose and asked, what it took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.types import Completion, Failure, Outcome, Selection

PROPOSE = "propose"
"""The beginning of the path, in a request's id, of whatever is asked for an answer of its own."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One request that failed."""

    expert: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Answered:
    """One query, answered or not; JSON values throughout."""

    id: str
    answer: str | None
    """None: there was none, and `error` says why."""
    expert: str | None
    """Who wrote it."""
    asked: tuple[str, ...]
    """Everybody who was asked anything."""
    chosen: tuple[str, ...]
    """The router's choice, best first; empty: it refused the query."""
    proposed: tuple[str, ...]
    """Experts that were asked for an answer of their own."""
    samples: int
    """Answers that they gave."""
    predicted: float | None
    """The quality that the router predicted of its first choice; None: it did not know."""
    quality: Mapping[str, float | None]
    """The quality that it predicted of each expert."""
    cost_usd: float | None
    """Of all requests; None, as of the tokens: it failed online, where that is not told."""
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    """Online from the question to the whole answer; else what its requests took of engines."""
    ttft_s: float | None = None
    """Online until the first piece of the answer that stands; None: it was asked in bulk."""
    finish_reason: str | None = None
    failures: tuple[Failed, ...] = ()
    error: str | None = None

    @property
    def panel(self) -> tuple[str, ...]:
        """Experts whose answers it had, or would have had, to choose from."""
        return self.proposed or self.chosen


@dataclass(frozen=True, slots=True)
class Said:
    """The end of a query: an answer, or an error."""

    answer: str | None = None
    expert: str | None = None
    finish_reason: str | None = None
    failures: Sequence[Failed] | None = None
    """None: those among the outcomes."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Took:
    """How long it took; see `Answered`."""

    seconds: float
    ttft_s: float | None = None


NOBODY = Selection("", "", (), (), (), (), "")
"""Where a query was refused and the router's qualities are not known."""


def account(
    query_id: str, selection: Selection, outcomes: Sequence[Outcome], said: Said, took: Took
) -> Answered:
    """Put together what is known of a query.

    Args:
        query_id: Its id.
        selection: Whom the router chose.
        outcomes: Of all its requests, annotations included.
        said: How it ended.
        took: How long it took.
    """
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    failures = [Failed(o.expert, o.kind, o.message) for o in outcomes if isinstance(o, Failure)]
    if said.failures is not None:
        failures = list(said.failures)
    proposals = [outcome for outcome in outcomes if _is_proposal(query_id, outcome)]
    return Answered(
        id=query_id,
        answer=said.answer,
        expert=said.expert,
        asked=tuple(dict.fromkeys([*_everybody(outcomes), *(f.expert for f in failures)])),
        chosen=tuple(choice.expert for choice in selection.choices),
        proposed=tuple(dict.fromkeys(_everybody(proposals))),
        samples=sum(_n_samples(o) for o in proposals if isinstance(o, Completion)),
        predicted=selection.choices[0].quality if selection.choices else None,
        quality={
            name: None if math.isnan(quality) else float(quality)
            for name, quality in zip(selection.experts, selection.quality, strict=True)
        },
        cost_usd=sum(completion.cost_usd for completion in completions),
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        seconds=took.seconds,
        ttft_s=took.ttft_s,
        finish_reason=said.finish_reason,
        failures=tuple(failures),
        error=said.error,
    )


def _is_proposal(query_id: str, outcome: Outcome) -> bool:
    """Whether an expert was asked for an answer of its own, alone or mixed with peers."""
    if isinstance(outcome, Failure):
        # A prompt that is too long is not sent, so nothing was proposed.
        is_asked = outcome.kind != "too_long"
        return is_asked and _path(query_id, outcome) == PROPOSE
    return bool(outcome.peers) or _path(query_id, outcome) == PROPOSE


def _n_samples(proposal: Completion) -> int:
    """Answers of its own that it holds: a text that peers mix takes a pass of each of them."""
    return 1 + len(proposal.peers) if proposal.peers else len(proposal.samples)


def _path(query_id: str, outcome: Outcome) -> str:
    return outcome.request_id.removeprefix(f"{query_id}/").partition("/")[0]


def _everybody(outcomes: Sequence[Outcome]) -> list[str]:
    peers = [peer for o in outcomes if isinstance(o, Completion) for peer in o.peers]
    return [*(outcome.expert for outcome in outcomes), *peers]
