"""What experts said alone, for compositions that would ask them just the same again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from composer.experts import Registry
from composer.types import DEFAULT_SAMPLING, Completion, Message, Outcome, Request, Sampling

Key = tuple[str, tuple[Message, ...], Sampling]


class SaidAlone:
    """Greedy answers by what was asked; call it with a request to learn its outcome.

    A request has one where the expert was asked the same messages for one greedy text of the same
    length. All else is to be asked: samples, log-probabilities, forms, texts of several experts.
    """

    def __init__(self, registry: Registry, told: Iterable[tuple[Request, Outcome]]) -> None:
        """Take up answers; failures are left out.

        Args:
            registry: Of the experts.
            told: Requests, and what came of each.
        """
        self._registry = registry
        self._by_key: dict[Key, Completion] = {}
        for request, outcome in told:
            key = self._key(request)
            if key is not None and isinstance(outcome, Completion):
                self._by_key[key] = outcome

    def __call__(self, request: Request) -> Completion | None:
        """The outcome of a request, under its id; None: it is to be asked."""
        key = self._key(request)
        found = None if key is None else self._by_key.get(key)
        return None if found is None else replace(found, request_id=request.id)

    def _key(self, request: Request) -> Key | None:
        """What makes the text what it is; None: more than a greedy text is asked for."""
        own = self._registry.experts[request.expert].sampling.to_sampling()
        sampling = request.sampling.over(own).over(DEFAULT_SAMPLING)
        is_plain = (
            request.logprobs is None
            and request.schema is None
            and request.continuation is None
            and not request.peers
            and not request.weights
        )
        if not is_plain or sampling.temperature != 0 or sampling.n != 1:
            return None
        # Of a greedy text these two decide nothing.
        return request.expert, request.messages, replace(sampling, seed=None, top_p=None)
