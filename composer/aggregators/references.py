"""What experts wrote, cut to the room that another expert's prompt has for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from composer.flow import ask_many
from composer.prompts import inject_references
from composer.protocols import Flow, Tools
from composer.types import DEFAULT_SAMPLING, Failure, Message, Outcome, Request

SHORTEST_REFERENCE = 40
"""Characters; where not even this much of each reference fits, there is nothing to go by."""
ANSWER_TOKENS = DEFAULT_SAMPLING.max_tokens or 0
"""What a prompt leaves free of a context where its request sets no `max_tokens`."""

_THINKING = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)


def without_thinking(text: str) -> str:
    """The text without its reasoning: all up to the last closing think tag, or from an open one.

    The opening tag may be missing, because some chat templates put it into the prompt.

    Source: Symbolic-MoE (arXiv 2503.05641; aggregate.py of dinobby/Symbolic-MoE), which drops what
    stands before `</think>`. Here reasoning that was cut off before its end is dropped too.
    """
    return _THINKING.sub("", text).strip()


def prompt_budget(
    by: str,
    messages: Sequence[Message],
    tools: Tools,
    max_reference_tokens: int | None = None,
    *,
    answer_tokens: int | None = None,
) -> int | None:
    """Tokens that a prompt with references may have; None: no bound is known.

    Args:
        by: Who reads the prompt.
        messages: The conversation without references.
        tools: The driver's.
        max_reference_tokens: What references may add to the messages; None: as much as fits.
        answer_tokens: What is left free of the context; None: `ANSWER_TOKENS`.
    """
    bounds: list[int] = []
    if (limit := tools.limit(by)) is not None:
        bounds.append(max(0, limit - (ANSWER_TOKENS if answer_tokens is None else answer_tokens)))
    if max_reference_tokens is not None:
        bounds.append(tools.count(by, messages) + max_reference_tokens)
    return min(bounds, default=None)


def fit_references(
    messages: Sequence[Message],
    texts: Sequence[str],
    by: str,
    budget: int | None,
    tools: Tools,
    inject: Callable[[Sequence[Message], Sequence[str]], tuple[Message, ...]] = inject_references,
) -> tuple[Message, ...] | None:
    """The messages with as much of the references as fits; None: too little does.

    One length in characters bounds all references, so the longest are cut first. It is the largest
    that fits, found by bisection: a longer prompt is taken to have more tokens.

    Args:
        messages: The conversation that the references answer.
        texts: What experts wrote, without their reasoning.
        by: Who reads the prompt, and whose tokens count.
        budget: As `prompt_budget` gives it.
        tools: The driver's.
        inject: Puts references into messages.
    """

    def injected(length: int) -> tuple[Message, ...]:
        return inject(messages, [_shorten(text, length) for text in texts])

    def fits(length: int) -> bool:
        return budget is None or tools.count(by, injected(length)) <= budget

    longest = max(map(len, texts), default=0)
    if fits(longest):
        return injected(longest)
    low, high = min(SHORTEST_REFERENCE, longest), longest
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return injected(low)


def with_references(
    request: Request,
    layers: Sequence[Sequence[str]],
    tools: Tools,
    max_reference_tokens: int | None = None,
) -> Request | Failure:
    """The request with references in its messages, or the failure that they do not fit.

    As long as not all is whole, the oldest layer is dropped; the last one is cut, by
    `fit_references`.

    Args:
        request: What is asked; its `max_tokens` are left free of the context.
        layers: The references' texts, the oldest layer first; at least one layer.
        tools: The driver's.
        max_reference_tokens: What references may add to the messages; None: as much as fits.
    """
    by, messages = request.expert, request.messages
    answer_tokens = request.sampling.max_tokens
    budget = prompt_budget(by, messages, tools, max_reference_tokens, answer_tokens=answer_tokens)
    for oldest in range(len(layers) - 1):
        texts = [text for layer in layers[oldest:] for text in layer]
        whole = inject_references(messages, texts)
        if budget is None or tools.count(by, whole) <= budget:
            return replace(request, messages=whole)
    cut = fit_references(messages, layers[-1], by, budget, tools)
    if cut is not None:
        return replace(request, messages=cut)
    return Failure(
        request.id,
        by,
        "too_long",
        f"{len(layers[-1])} references do not fit into {budget} prompt tokens of {by!r}; "
        "name an expert with a longer context, or let fewer propose",
    )


def ask_prepared(prepared: Sequence[Request | Failure], tools: Tools) -> Flow[tuple[Outcome, ...]]:
    """`ask_many` of the requests that `with_references` could make; its failures stay in place."""
    requests = [each for each in prepared if isinstance(each, Request)]
    outcomes = iter((yield from ask_many(requests, tools)))
    return tuple(each if isinstance(each, Failure) else next(outcomes) for each in prepared)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rstrip() + "..."
