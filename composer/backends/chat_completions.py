"""The words of OpenAI's chat completions: what is sent, and how replies are read. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from composer.backends.http_errors import ChatError, ServerError, status_error
from composer.types import Completion, Request, Sample, TokenLogprob

CHARACTERS_PER_TOKEN = 4
"""Of the estimates, where a server does not say how many tokens it used."""
TOKENS_PER_MESSAGE = 4


class _Alternative(BaseModel):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: tuple[_Alternative, ...] | None = None


class _Logprobs(BaseModel):
    content: tuple[_Token, ...] | None = None


class _Words(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    index: int = 0
    message: _Words = Field(_Words(), validation_alias=AliasChoices("message", "delta"))
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ChatReply(BaseModel):
    """A reply, or one chunk of a streamed one."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: ServerError | str | None = None

    @classmethod
    def read(cls, text: str | bytes) -> ChatReply:
        """The reply in this JSON.

        Raises:
            ChatError: It is no JSON, not of this form, or holds an error instead.
        """
        try:
            reply = cls.model_validate_json(text)
        except ValidationError as exc:
            problem = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise ChatError(
                "bad_output",
                f"its reply is no chat completion ({where or 'body'}: {problem['msg']})",
                remedy="check that base_url is an OpenAI-compatible API",
            ) from exc
        if reply.error is not None:
            code = reply.error.code if isinstance(reply.error, ServerError) else None
            status = code if isinstance(code, int) and code >= 400 else 500
            raise status_error(status, text if isinstance(text, str) else text.decode())
        return reply


def chat_body(request: Request, model: str, *, stream: bool) -> dict[str, Any]:
    """The JSON body that asks for a request; what is left to the server is left out."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sample_count(request) > 1:
        body["n"] = sample_count(request)
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.schema), "strict": True},
        }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def sample_count(request: Request) -> int:
    """How many samples a request asks for."""
    return request.sampling.n or 1


class ChatStream:
    """Puts the chunks of one streamed reply together."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._parts: dict[int, list[_Choice]] = {}
        self._usage: _Usage | None = None
        self.is_done = False
        """Whether the server has said that nothing follows."""
        self.handed_out = 0
        """Characters of the first sample given out so far."""

    @property
    def is_whole(self) -> bool:
        """Whether every sample has ended, and none is missing unless the server left it out."""
        return all(any(p.finish_reason for p in parts) for parts in self._parts.values()) and (
            self.is_done or len(self._parts) >= self._n
        )

    def feed(self, data: str) -> str:
        """Take in one event's data and return what it adds to the first sample's text.

        Raises:
            ChatError: It is no chunk of a reply, or it holds an error.
        """
        if data.strip() == "[DONE]":
            self.is_done = True
            return ""
        chunk = ChatReply.read(data)
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._parts.setdefault(choice.index, []).append(choice)
        text = "".join(c.message.content or "" for c in chunk.choices if c.index == 0)
        self.handed_out += len(text)
        return text

    def reply(self) -> ChatReply:
        """The whole reply."""
        return ChatReply(choices=tuple(map(_join, self._parts.values())), usage=self._usage)


def read_completion(reply: ChatReply, request: Request) -> Completion:
    """The completion in a reply.

    Where the server does not say how many tokens it used they are estimated: characters / 4, and 4
    for each message of the prompt. It counts all samples together, so tokens of one of several are
    its share by length.

    Raises:
        ChatError: Samples are missing, or one of them has no text or no finish_reason.
    """
    n = sample_count(request)
    choices = sorted(reply.choices, key=lambda c: c.index)[:n]
    if len(choices) < n:
        raise ChatError(
            "bad_output",
            f"its reply has {len(choices)} of the {n} samples asked for",
            remedy="ask for one at a time (n: 1)" if choices else "",
        )
    texts = [_text(choice) for choice in choices]
    usage = reply.usage or _Usage()
    counts = _token_counts(usage.completion_tokens, choices, texts)
    return Completion(
        request.id,
        request.expert,
        tuple(
            Sample(text, choice.finish_reason or "", count, _logprobs(choice))
            for text, choice, count in zip(texts, choices, counts, strict=True)
        ),
        _estimate_prompt(request) if usage.prompt_tokens is None else usage.prompt_tokens,
    )


def _join(parts: Sequence[_Choice]) -> _Choice:
    return _Choice(
        index=parts[0].index,
        message=_Words(
            content=_joined([p.message.content for p in parts]),
            refusal=_joined([p.message.refusal for p in parts]),
        ),
        finish_reason=next((p.finish_reason for p in parts if p.finish_reason), None),
        logprobs=_Logprobs(content=tuple(token for p in parts for token in _tokens(p)))
        if any(p.logprobs for p in parts)
        else None,
    )


def _joined(pieces: Sequence[str | None]) -> str | None:
    said = [piece for piece in pieces if piece is not None]
    return "".join(said) if said else None


def _text(choice: _Choice) -> str:
    if choice.message.refusal:
        raise ChatError("refused", f"the model refused: {choice.message.refusal}")
    if choice.message.content is None or choice.finish_reason is None:
        missing = "text" if choice.finish_reason is not None else "finish_reason"
        raise ChatError(
            "bad_output",
            f"sample {choice.index} has no {missing} (finish_reason {choice.finish_reason!r})",
            remedy="raise max_tokens" if choice.finish_reason == "length" else "",
        )
    return choice.message.content


def _tokens(choice: _Choice) -> tuple[_Token, ...]:
    return (choice.logprobs.content or ()) if choice.logprobs else ()


def _logprobs(choice: _Choice) -> tuple[TokenLogprob, ...] | None:
    if choice.logprobs is None or choice.logprobs.content is None:
        return None
    return tuple(
        TokenLogprob(t.token, t.logprob, tuple((a.token, a.logprob) for a in t.top_logprobs or ()))
        for t in choice.logprobs.content
    )


def _token_counts(total: int | None, choices: Sequence[_Choice], texts: Sequence[str]) -> list[int]:
    if total is None:
        return [len(_tokens(c)) or _estimate(t) for c, t in zip(choices, texts, strict=True)]
    # Each boundary is rounded, not each share, so that the shares add up to the whole.
    length = sum(map(len, texts))
    ends = [0]
    for number, text in enumerate(texts, start=1):
        ends.append(ends[-1] + len(text) if length else number)
    return [
        total * end // ends[-1] - total * start // ends[-1]
        for start, end in itertools.pairwise(ends)
    ]


def _estimate(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _estimate_prompt(request: Request) -> int:
    return sum(_estimate(m.content) + TOKENS_PER_MESSAGE for m in request.messages)
