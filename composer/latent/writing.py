"""One text in the making: its tokens, what they say, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from composer.latent.drawing import Draw, Drawn
from composer.latent.reading import Reading
from composer.tokenizer import ChatTokenizer
from composer.types import Request, Sample, TokenLogprob

BEFORE_TOKENS = 4
"""Tokens of the prompt that the text is decoded with: the first one may say more behind others."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What the bytes of half a character decode to."""


class Writing:
    """One of the texts that a request asked for."""

    def __init__(
        self,
        request: Request,
        sample: int,
        prompt: Reading,
        tokenizer: ChatTokenizer,
        ends: frozenset[int],
        room: int,
    ) -> None:
        """Begin.

        Args:
            request: Its sampling is complete.
            sample: Which of the request's texts.
            prompt: As the primary reads it.
            tokenizer: The primary's.
            ends: Tokens that end a text.
            room: Tokens that the primary's context has left.
        """
        self.request = request
        self.sample = sample
        self.text = ""
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self._tokenizer = tokenizer
        self._ends = ends
        self._before = list(prompt.tokens[-BEFORE_TOKENS:])
        self._n_before = len(tokenizer.decode(self._before))
        self._limit = min(request.sampling.max_tokens or room, room)
        self._stops = request.sampling.stop or ()
        self._draw = Draw(request.sampling, sample, request.logprobs)
        self._logprobs: list[TokenLogprob] = []
        self._n_streamed = 0

    def take(self, scores: Tensor) -> None:
        """Draw the next token from scores [V], and see whether the text ends with it."""
        drawn = self._draw.next(scores)
        self.tokens.append(drawn.token)
        if self.request.logprobs is not None:
            self._logprobs.append(self._told(drawn))
        if drawn.token in self._ends:
            self.finish_reason = "stop"
            return
        self.text = self._tokenizer.decode(self._before + self.tokens)[self._n_before :]
        found = [at for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.finish_reason = "stop"
        elif len(self.tokens) >= self._limit:
            self.finish_reason = "length"

    def fresh(self) -> str:
        """What may be shown that was not: nothing that a stop or a character may yet take back."""
        ready = self.text if self.finish_reason else self.text[: _sure(self.text, self._stops)]
        piece = ready[self._n_streamed :]
        self._n_streamed += len(piece)
        return piece

    def finished(self) -> Sample:
        """The text as it ended."""
        return Sample(
            self.text,
            self.finish_reason or "stop",
            len(self.tokens),
            None if self.request.logprobs is None else tuple(self._logprobs),
        )

    def _told(self, drawn: Drawn) -> TokenLogprob:
        name = self._tokenizer.token_text
        top = tuple((name(token), logprob) for token, logprob in drawn.top)
        return TokenLogprob(name(drawn.token), drawn.logprob, top)


def _sure(text: str, stops: Sequence[str]) -> int:
    """How much of a text cannot be the beginning of a stop, or of half a character."""
    sure = len(text.rstrip(UNFINISHED))
    for stop in stops:
        longest = min(len(stop) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
        sure = min(sure, len(text) - held)
    return sure
