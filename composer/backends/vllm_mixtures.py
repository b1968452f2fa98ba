"""Experts of one engine that write one text: the rows of a batch, mixed in lock-step.

A request with peers is one row of vLLM's batch for each expert, with the same prompt. After every
forward pass the rows' distributions are replaced by

    p(x_t | x_<t) = sum_j w_j p_j(x_t | x_<t),     w_j ~= prior_j * prod_{i<t} p_j(x_i | x_<i)

so all of them draw the same token, greedily or by the same seed, and stop together. The weights
begin as the request's and are the posterior given the tokens drawn so far; temperature and top_p
apply to the mixture.

This needs all rows in every step. So a group enters the engine when it fits into one step with all
that is there already; after that the scheduler gives each running row its token in each step. What
takes that away (preemption for want of KV space) is noticed in the very step, and fails the
request. Tried instead and not needed: transformers with all adapters in one runner, which would
bring an engine of its own with neither continuous batching nor paged memory.

The same processor makes an engine with adapters say a given text, token by token, which is how it
scores one: vLLM's log-probabilities of a prompt are wrong there, or fail (vllm-project/vllm#16668,
#29955), while those of generated tokens are taken before anything here changes them.

Nothing here imports vllm or torch; tensors are handed in.

Source: Li et al., "Branch-Train-Merge" (arXiv 2208.03306), sections 2 and 3. Deviations: the
posterior is over generated tokens alone, as what the prompt tells of the experts is for whoever
gives the weights; an expert of weight 0 is computed with the others, and never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from composer.types import RequestId

if TYPE_CHECKING:
    from torch import Tensor


class Added(NamedTuple):
    """A new row of the batch."""

    place: int
    extra_args: dict[str, Any] | None
    """`row_arguments` or `forced_arguments`, if it is to be changed."""
    tokens: list[int]
    """The tokens generated so far; the engine goes on appending to it."""


class Moved(NamedTuple):
    """A row that goes to another place in the batch."""

    source: int
    target: int
    is_swap: bool


def row_arguments(mixture: str, member: int) -> dict[str, Any]:
    """What a row's sampling parameters carry, so that it is known for what it is."""
    return {"mixture": mixture, "member": member}


def forced_arguments(tokens: Sequence[int]) -> dict[str, Any]:
    """What the sampling parameters of a row carry that is to say these tokens and no others."""
    return {"forced": list(tokens)}


@dataclass(frozen=True, slots=True)
class _Forced:
    wanted: list[int]
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class _Row:
    mixture: str
    member: int
    tokens: list[int]


class _Mixture:
    """One group in progress."""

    def __init__(self, log_weights: Sequence[float]) -> None:
        self._log_weights = tuple(log_weights)
        self._n_tokens = 0
        self._logprobs: Tensor | None = None
        """Of the last step, [size, vocabulary]."""
        self._sums: Tensor | None = None
        """Of the weight at first and the tokens drawn so far, [size]."""

    def is_in_step(self, rows: Sequence[_Row]) -> bool:
        """Whether all rows are there, and all have drawn what was mixed last."""
        tokens = rows[0].tokens
        return (
            len(rows) == len(self._log_weights)
            and len(tokens) == self._n_tokens
            and all(row.tokens == tokens for row in rows)
        )

    def mix(self, logits: Tensor, token: int | None) -> Tensor:
        """The log of the mixture [vocabulary] of logits [size, vocabulary].

        Args:
            logits: Of the experts, in their order.
            token: What was drawn last; None: nothing yet.
        """
        logprobs = logits.float().log_softmax(dim=-1)
        if self._logprobs is None or self._sums is None or token is None:
            self._sums = logprobs.new_tensor(self._log_weights)
        else:
            self._sums = self._sums + self._logprobs[:, token]
        self._logprobs = logprobs
        self._n_tokens += 1
        weights = self._sums.log_softmax(dim=0)
        return (logprobs + weights[:, None]).logsumexp(dim=0)


class Mixtures:
    """All groups of one engine, and all texts that it scores, by the rows of its batch."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row | _Forced] = {}
        self._mixtures: dict[str, _Mixture] = {}
        self._broken: list[str] = []
        self._n_started = 0

    def start(self, request_id: RequestId, log_weights: Sequence[float]) -> str:
        """Expect a group, whose rows come with the updates, and name it as never before.

        Args:
            request_id: Of the group.
            log_weights: Of its experts before the first token, in their order; one is finite.
        """
        self._n_started += 1
        name = f"{request_id}#{self._n_started}"
        self._mixtures[name] = _Mixture(log_weights)
        return name

    def end(self, name: str) -> None:
        """Forget a group; rows of it that are still in the batch are left as they are."""
        self._mixtures.pop(name, None)

    def take_broken(self) -> list[str]:
        """Groups whose rows fell out of step since the last call; they are ended."""
        broken, self._broken = self._broken, []
        for name in broken:
            self.end(name)
        return broken

    def update(
        self, removed: Sequence[int], added: Sequence[Added], moved: Sequence[Moved]
    ) -> None:
        """Follow the batch; the order of the three is vLLM's."""
        for index in removed:
            self._rows.pop(index, None)
        for index, extra_args, tokens in added:
            self._rows.pop(index, None)
            if extra_args is not None and "mixture" in extra_args:
                self._rows[index] = _Row(extra_args["mixture"], extra_args["member"], tokens)
            elif extra_args is not None and "forced" in extra_args:
                self._rows[index] = _Forced(extra_args["forced"], tokens)
        for source, target, is_swap in moved:
            one, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if one is not None:
                self._rows[target] = one
            if is_swap and other is not None:
                self._rows[source] = other

    def apply(self, logits: Tensor) -> Tensor:
        """Make a group's rows the log of their mixture, and a forced row its token, in place.

        Args:
            logits: Of the whole batch, [rows, vocabulary].
        """
        members: dict[str, dict[int, tuple[int, _Row]]] = {}
        for index, row in self._rows.items():
            if isinstance(row, _Row):
                members.setdefault(row.mixture, {})[row.member] = (index, row)
            elif len(row.tokens) < len(row.wanted):
                logits[index] = -float("inf")
                logits[index, row.wanted[len(row.tokens)]] = 0.0
        for name, group in members.items():
            mixture = self._mixtures.get(name)
            if mixture is None:
                continue
            indices = [index for _, (index, _) in sorted(group.items())]
            rows = [row for _, (_, row) in sorted(group.items())]
            if mixture.is_in_step(rows):
                tokens = rows[0].tokens
                logits[indices] = mixture.mix(logits[indices], tokens[-1] if tokens else None)
            else:
                self._broken.append(name)
        return logits
