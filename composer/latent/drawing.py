"""The next token of each text, drawn from the scores as its request says."""

# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.types import Sampling


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token, with its log-probability (nats) and the likeliest ones."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Draw:
    """How one text's tokens are drawn; its own random state."""

    def __init__(self, sampling: Sampling, sample: int, logprobs: int | None) -> None:
        """Begin.

        Args:
            sampling: Complete but for the seed; without one every text draws anew.
            sample: Which of the request's n texts it is: they share a seed, not their tokens.
            logprobs: How many of the likeliest tokens to tell; None: none.
        """
        self._temperature = sampling.temperature or 0.0
        self._top_p = 1.0 if sampling.top_p is None else sampling.top_p
        self._logprobs = logprobs or 0
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed + 7919 * sample)

    def next(self, scores: Tensor) -> Drawn:
        """The next token; temperature 0 is the likeliest.

        Log-probabilities are those of the scores as they are, before temperature and top-p.

        Args:
            scores: [V].
        """
        logprobs = scores.float().log_softmax(-1).cpu()
        token = int(logprobs.argmax()) if not self._temperature else self._sampled(logprobs)
        likeliest = logprobs.topk(self._logprobs).indices
        top = tuple((int(one), float(logprobs[one])) for one in likeliest)
        return Drawn(token, float(logprobs[token]), top)

    def _sampled(self, logprobs: Tensor) -> int:
        """Source of top-p: nucleus sampling (arXiv 1904.09751), section 3.1."""
        shares, tokens = (logprobs / self._temperature).softmax(-1).sort(descending=True)
        before = shares.cumsum(-1) - shares
        shares = shares.where(before < self._top_p, 0.0)
        return int(tokens[torch.multinomial(shares, 1, generator=self._random)])
