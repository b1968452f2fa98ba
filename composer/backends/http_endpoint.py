"""One model behind one URL: makes single calls to it and says what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

import httpx
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    StringConstraints,
    ValidationError,
)

from composer.backends.chat_completions import (
    ChatReply,
    ChatStream,
    chat_body,
    read_completion,
    sample_count,
)
from composer.backends.circuit_breaker import CircuitBreaker
from composer.backends.http_errors import (
    ChatError,
    retry_after_s,
    status_error,
    transport_error,
)
from composer.backends.sse import SseParser
from composer.credentials import is_reference, resolve_secret
from composer.errors import ConfigError
from composer.types import Completion, Delta, EngineSpec, Request

OK = 200
CONNECT_TIMEOUT_S = 10.0
LONGEST_MESSAGE = 400
"""Characters of what a server says that a failure repeats."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[ -~]*$")]

HandOut = Callable[[Delta], None]
"""Takes the pieces of a streamed text as they arrive."""


class EndpointArgs(BaseModel):
    """The `engine_args` of an endpoint."""

    # The input may hold a secret that was written out, so errors must not show it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str
    """Up to and with /v1."""
    model: str
    api_key: str | None = None
    """A reference to the key, sent as a bearer token."""
    timeout_s: PositiveFloat = 120.0
    """Longest silence of the server; deadlines of whole requests are the pool's."""
    max_retries: NonNegativeInt = 3
    headers: dict[HeaderName, HeaderValue] = {}
    """Sent with each request; a value may be a reference to a secret."""

    @classmethod
    def read(cls, spec: EngineSpec) -> EndpointArgs:
        """The arguments in a spec.

        Raises:
            ConfigError: One is missing, unknown or wrong.
        """
        whose = f"expert {spec.experts[0]!r}"
        try:
            args = cls.model_validate(dict(spec.engine_args))
        except ValidationError as exc:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))!r}: {e['msg'].lower()}" for e in exc.errors()
            )
            choices = sorted(cls.model_fields)
            raise ConfigError(
                f"{whose}: engine_args of an openai endpoint: {problems}; choose from {choices}"
            ) from None
        try:
            url = httpx.URL(args.base_url)
        except httpx.InvalidURL as exc:
            raise ConfigError(f"{whose}: base_url is no URL ({exc})") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(
                f"{whose}: base_url {args.base_url!r} must be http://... or https://..."
            )
        if url.userinfo or url.query:
            raise ConfigError(
                f"{whose}: base_url must hold neither a password nor a query; "
                "name secrets in api_key or headers"
            )
        return args


class Endpoint:
    """Calls one model on one server, unless the server is known to be down."""

    def __init__(
        self,
        args: EndpointArgs,
        client: httpx.AsyncClient,
        breaker: CircuitBreaker,
        secrets: tuple[str, ...],
        wall_clock: Callable[[], datetime],
    ) -> None:
        self.args = args
        self._client = client
        self._breaker = breaker
        self._secrets = secrets
        self._wall_clock = wall_clock

    @classmethod
    def open(
        cls, args: EndpointArgs, breaker: CircuitBreaker, wall_clock: Callable[[], datetime]
    ) -> Endpoint:
        """Look up the secrets and make a client; nothing is sent yet.

        Raises:
            ConfigError: A secret that an argument refers to is missing or cannot be sent.
        """
        secrets = _secrets(args)
        headers = {name: secrets.get(value, value) for name, value in args.headers.items()}
        if args.api_key is not None:
            headers["Authorization"] = f"Bearer {secrets[args.api_key]}"
        client = httpx.AsyncClient(
            base_url=args.base_url,
            headers=headers,
            # Waiting for a free connection is queueing, which the caller's deadline bounds.
            timeout=httpx.Timeout(
                args.timeout_s, connect=min(args.timeout_s, CONNECT_TIMEOUT_S), pool=None
            ),
            trust_env=False,
        )
        return cls(args, client, breaker, tuple(secrets.values()), wall_clock)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def call(self, request: Request, hand_out: HandOut, *, stream: bool) -> Completion:
        """Make one attempt at a request.

        Raises:
            ChatError: It gave no completion, or the endpoint is left alone at present.
        """
        permit = self._breaker.admit()
        if permit is None:
            wait_s = self._breaker.wait_s
            until = f"for {wait_s:.0f} s more" if wait_s else "until a trial call has ended"
            raise ChatError(
                "unavailable",
                f"failed several times in a row and is left alone {until}",
                remedy="check that the server runs",
            )
        is_up: bool | None = None
        try:
            completion = await (self._stream(request, hand_out) if stream else self._post(request))
            is_up = True
            return completion
        except ChatError as error:
            is_up = error.fault not in ("endpoint", "stream")
            raise
        finally:
            self._breaker.settle(permit, is_up=is_up)

    def describe(self, error: ChatError) -> str:
        """One line on an error for a person to read; holds no secret."""
        message = error.message
        for secret in self._secrets:
            message = message.replace(secret, "***")
        message = " ".join(message.split())
        if len(message) > LONGEST_MESSAGE:
            message = message[:LONGEST_MESSAGE] + "..."
        remedy = f"; {error.remedy}" if error.remedy else ""
        return f"endpoint {self.args.base_url!r}: {message}{remedy}"

    async def _post(self, request: Request) -> Completion:
        try:
            response = await self._client.post(
                "/chat/completions", json=chat_body(request, self.args.model, stream=False)
            )
        except httpx.RequestError as exc:
            raise transport_error(exc, self.args.timeout_s) from exc
        self._check(response)
        return read_completion(ChatReply.read(response.content), request)

    async def _stream(self, request: Request, hand_out: HandOut) -> Completion:
        chat = ChatStream(sample_count(request))
        broken: ChatError | None = None
        try:
            await self._receive(request, chat, hand_out)
        except httpx.RequestError as exc:
            broken = transport_error(exc, self.args.timeout_s)
        except ChatError as error:
            if error.fault == "request":
                raise
            broken = error
        if not chat.is_whole:
            broken = broken or ChatError("unavailable", "the server said no more", fault="endpoint")
            if chat.handed_out == 0:
                raise broken
            raise ChatError(
                "unavailable",
                f"the stream broke after {chat.handed_out} characters: {broken.message}",
                fault="stream",
            )
        return read_completion(chat.reply(), request)

    async def _receive(self, request: Request, chat: ChatStream, hand_out: HandOut) -> None:
        parser = SseParser()
        body = chat_body(request, self.args.model, stream=True)
        async with self._client.stream("POST", "/chat/completions", json=body) as response:
            if response.status_code != OK:
                await response.aread()
            self._check(response)
            content_type = response.headers.get("Content-Type", "")
            if content_type.startswith("application/json"):
                raise ChatError("bad_output", "does not stream, though it was asked to")
            async for chunk in response.aiter_bytes():
                for data in parser.feed(chunk):
                    if text := chat.feed(data):
                        hand_out(Delta(request.id, request.expert, text))
                    if chat.is_done:
                        return

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != OK:
            raise status_error(
                response.status_code,
                response.text,
                api_key=self.args.api_key,
                retry_after_s=retry_after_s(response.headers, self._wall_clock()),
            )


def _secrets(args: EndpointArgs) -> Mapping[str, str]:
    references = [value for value in args.headers.values() if is_reference(value)]
    if args.api_key is not None:
        references.append(args.api_key)
    secrets = {reference: resolve_secret(reference).strip() for reference in references}
    for reference, secret in secrets.items():
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ConfigError(
                f"the secret in {reference!r} cannot be sent in a header; "
                "it must be one line of ASCII characters"
            )
    return secrets
