"""What errors of a server or of the connection to it mean, in the project's own kinds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx
from pydantic import BaseModel, ValidationError

from composer.types import FailureKind

TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|prompt (is )?too long|too many tokens", re.IGNORECASE
)
"""How servers say that a prompt does not fit; they share a status (400), but no error code."""

Fault = Literal["request", "busy", "endpoint", "stream"]
"""What is to be made of an error.

request: the endpoint is well, and the same request would fail again.
busy: it is well, and wants to be asked later.
endpoint: it is down or ailing; may pass.
stream: it broke off after text was handed out, so only the caller can begin anew.
"""


class ChatError(Exception):
    """A call that gave no completion. Never leaves the backend."""

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        remedy: str = "",
        fault: Fault = "request",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = message
        """May quote the server, and so be long or hold a secret."""
        self.remedy = remedy
        self.fault: Fault = fault
        self.retry_after_s = retry_after_s


class ServerError(BaseModel):
    """The error object of OpenAI's replies."""

    message: str | None = None
    code: int | str | None = None


class _ErrorBody(BaseModel):
    """The forms that servers give their errors: OpenAI's, Ollama's, FastAPI's."""

    error: ServerError | str | None = None
    message: str | None = None
    detail: str | None = None

    @property
    def text(self) -> str | None:
        if isinstance(self.error, ServerError):
            return self.error.message
        return self.error or self.message or self.detail


def status_error(
    status: int, text: str, *, api_key: str | None = None, retry_after_s: float | None = None
) -> ChatError:
    """What an HTTP status that is no success means.

    Args:
        status: The status; not 200.
        text: The reply's body.
        api_key: The reference to the key that was sent; None: none was.
        retry_after_s: How long the server asks to wait; None: it does not say.
    """
    said = f"HTTP {status}: {_said(text)}"
    if status in (401, 403):
        remedy = f"check the key in {api_key!r}" if api_key else "set engine_args.api_key"
        return ChatError("refused", said, remedy=remedy)
    if status < 400 or status == 404:
        return ChatError("refused", said, remedy="check engine_args.base_url and .model")
    if status == 413 or (status in (400, 422) and TOO_LONG.search(text)):
        return ChatError("too_long", said, remedy="shorten the prompt or lower max_tokens")
    if status in (408, 429):
        return ChatError("unavailable", said, fault="busy", retry_after_s=retry_after_s)
    if status >= 500:
        return ChatError("unavailable", said, fault="endpoint", retry_after_s=retry_after_s)
    return ChatError("refused", said)


def transport_error(error: httpx.RequestError, timeout_s: float) -> ChatError:
    """What an error below HTTP means; `timeout_s` is how long a silence was allowed to last."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ChatError(
            "unavailable",
            f"cannot be reached ({str(error) or 'timeout'})",
            remedy="check base_url and that the server runs",
            fault="endpoint",
        )
    if isinstance(error, httpx.TimeoutException):
        return ChatError(
            "timeout",
            f"said nothing for {timeout_s:g} s",
            remedy="raise engine_args.timeout_s if it is slow",
            fault="endpoint",
        )
    if isinstance(error, httpx.DecodingError):
        return ChatError("bad_output", f"its reply cannot be decoded ({error})")
    return ChatError(
        "unavailable",
        f"the connection broke ({type(error).__name__}: {error})",
        fault="endpoint",
    )


def retry_after_s(headers: httpx.Headers, wall_clock: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, given as such or as a date; None: nothing legible."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date "-0000" is in UTC all the same, but is read without a time zone.
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - wall_clock).total_seconds())


def _said(text: str) -> str:
    try:
        said = _ErrorBody.model_validate_json(text).text
    except ValidationError:
        said = None
    return said or text.strip() or "no reason given"
