"""What vLLM gives, put together: the pieces of a run, and the completion that they make."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from composer.backends.vllm_groups import log_weights
from composer.types import Completion, Delta, Failure, Request, Sample, TokenLogprob

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput

REASON_CHARACTERS = 400
"""As much of vLLM's own words as an error of ours repeats."""


class Run:
    """One request in the engine."""

    def __init__(
        self, request: Request, prompt: Sequence[int], scored: Sequence[int], *, stream: bool
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.scored = scored
        self.stream = stream
        self.experts = (request.expert, *request.peers)
        """Whose rows it has in the batch: one, or a group's."""
        self.rows: list[str] = []
        """The engine's ids of those rows."""
        self.is_forced = False
        """Whether the text to be scored is said by the engine, and not a part of its prompt."""
        self.mixture: str | None = None
        """What the engine calls the group while it is in there."""
        self._started_s = time.perf_counter()
        self._pieces: dict[int, _Pieces] = {}
        self._n_finished = 0

    @property
    def n_prompt_tokens(self) -> int:
        """Of all its rows."""
        return len(self.prompt) * len(self.experts)

    @property
    def is_finished(self) -> bool:
        """Whether all its rows are."""
        return self._n_finished == len(self.experts)

    def take(self, member: int, output: RequestOutput) -> list[Delta | Completion]:
        """What came of one row in one step; the completion once all rows are finished.

        Args:
            member: Which expert of a group the row is of; 0 without peers.
            output: Of that row.
        """
        request = self.request
        events: list[Delta | Completion] = []
        for part in output.outputs:
            index = part.index + member
            pieces = self._pieces.setdefault(index, _Pieces())
            pieces.text += part.text
            pieces.tokens += len(part.token_ids)
            pieces.finish_reason = part.finish_reason
            if part.logprobs:
                pieces.logprobs.extend(_token_logprobs(part.token_ids, part.logprobs))
            if self.stream and index == 0 and part.text and request.continuation is None:
                events.append(Delta(request.id, request.expert, part.text))
        if output.finished:
            self._n_finished += 1
            if self.is_finished:
                events.append(self._completion(output))
        return events

    def _completion(self, output: RequestOutput) -> Completion:
        if self.request.continuation is not None:
            samples = (self._scored_sample(output),)
        else:
            samples = tuple(
                Sample(
                    pieces.text,
                    pieces.finish_reason or "stop",
                    pieces.tokens,
                    tuple(pieces.logprobs) if self.request.logprobs is not None else None,
                )
                for _, pieces in sorted(self._pieces.items())
            )
        if self.request.peers:
            samples = mixture_samples(samples, log_weights(self.request))
        return Completion(
            self.request.id,
            self.request.expert,
            samples,
            self.n_prompt_tokens,
            generating_s=time.perf_counter() - self._started_s,
            peers=self.request.peers,
        )

    def _scored_sample(self, output: RequestOutput) -> Sample:
        """The continuation with the log-probability of each of its tokens."""
        n_tokens = len(self.scored)
        if self.is_forced:
            logprobs = self._pieces[0].logprobs[:n_tokens]
        else:
            of_prompt = (output.prompt_logprobs or [])[-n_tokens:] if n_tokens else []
            logprobs = _token_logprobs(self.scored, of_prompt)
        return Sample(self.request.continuation or "", "scored", n_tokens, tuple(logprobs))


class _Pieces:
    """What one sample of a request has given so far."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: str | None = None


def mixture_samples(members: Sequence[Sample], log_weights: Sequence[float]) -> tuple[Sample, ...]:
    """The text of a group, and after it the same text as each of its experts scored it.

    Tokens are counted once for each expert; those of the first are the text's own.

    Args:
        members: The text with each expert's log-probabilities, if they were asked for.
        log_weights: Of the experts before the first token, of shares that sum to 1.
    """
    first = members[0]
    logprobs = None
    if first.logprobs is not None:
        logprobs = _mixed_logprobs([member.logprobs or () for member in members], log_weights)
    text = Sample(first.text, first.finish_reason, first.completion_tokens, logprobs)
    scored = [Sample(m.text, "scored", m.completion_tokens, m.logprobs) for m in members]
    return (text, replace(scored[0], completion_tokens=0), *scored[1:])


def _mixed_logprobs(
    members: Sequence[Sequence[TokenLogprob]], log_weights: Sequence[float]
) -> tuple[TokenLogprob, ...]:
    """Of the mixture whose weights are the posterior so far: p(x_1..t) / p(x_1..t-1)."""
    sums, before = list(log_weights), 0.0
    mixed: list[TokenLogprob] = []
    for tokens in zip(*members, strict=True):
        sums = [total + token.logprob for total, token in zip(sums, tokens, strict=True)]
        top = max(sums)
        after = top + math.log(math.fsum(math.exp(total - top) for total in sums))
        mixed.append(TokenLogprob(tokens[0].token, after - before))
        before = after
    return tuple(mixed)


def _token_logprobs(token_ids: Sequence[int], logprobs: Any) -> list[TokenLogprob]:
    taken: list[TokenLogprob] = []
    for token_id, alternatives in zip(token_ids, logprobs, strict=False):
        chosen = alternatives[token_id]
        top = sorted(alternatives.values(), key=lambda a: a.rank or 0)
        taken.append(
            TokenLogprob(
                chosen.decoded_token or "",
                float(chosen.logprob),
                tuple((a.decoded_token or "", float(a.logprob)) for a in top),
            )
        )
    return taken


def too_long(request: Request, n_tokens: int, limit: int) -> Failure:
    """The failure of a request that does not fit the context."""
    return Failure(
        request.id,
        request.expert,
        "too_long",
        f"the prompt has {n_tokens} tokens and the context is {limit}; shorten it or raise "
        "engine_args.max_model_len",
    )


def refused(request: Request, reason: str) -> Failure:
    """The failure of a request that the engine does not take."""
    return Failure(request.id, request.expert, "refused", reason)


def one_line(exc: Exception) -> str:
    """What vLLM says, short enough to be repeated in an error of ours."""
    return " ".join((str(exc) or repr(exc)).split())[:REASON_CHARACTERS]
