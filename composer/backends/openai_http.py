"""Experts behind any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from composer.backends import BACKENDS
from composer.backends.circuit_breaker import CircuitBreaker
from composer.backends.http_endpoint import Endpoint, EndpointArgs, HandOut
from composer.backends.http_errors import ChatError
from composer.types import Completion, Delta, EngineSpec, Failure, Request, RequestId

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that asks to wait longer than this is given up on."""

BREAKERS: dict[str, CircuitBreaker] = {}
"""By base_url, for the whole process: an endpoint that is down is down for all of its models, and
still is when an engine is made anew."""


class OpenAIBackend:
    """A `Backend` for one model on one endpoint.

    Calls that may pass (connections, timeouts, 408, 429, 5xx) are tried again here, so a failure
    is only retryable where that was impossible: a stream that broke after text was handed out.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
        breakers: dict[str, CircuitBreaker] = BREAKERS,
    ) -> None:
        """Store the parts.

        Args:
            sleep: Waits between attempts.
            now: Seconds of any monotonic clock.
            wall_clock: Read where a server names the time to come back at.
            rng: Jitter of the waits.
            breakers: By base_url; missing ones are added.
        """
        self.capabilities = BACKENDS["openai"].capabilities
        self._sleep = sleep
        self._now = now
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()
        self._breakers = breakers
        self._endpoint: Endpoint | None = None
        self._running: dict[RequestId, asyncio.Task[Completion | Failure]] = {}

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`. Sends nothing: whether the endpoint is up shows when it is asked.

        Raises:
            ConfigError: An argument is wrong, or a secret that one refers to is missing.
        """
        args = EndpointArgs.read(spec)
        breaker = self._breakers.setdefault(
            args.base_url.rstrip("/"), CircuitBreaker(now=self._now)
        )
        self._endpoint = Endpoint.open(args, breaker, self._wall_clock)

    async def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure, None]:
        """See `Backend.generate`."""
        assert self._endpoint is not None, "nothing is loaded"
        events: asyncio.Queue[Delta | asyncio.Task[Completion | Failure]] = asyncio.Queue()
        tasks: dict[asyncio.Task[Completion | Failure], Request] = {}
        for request in requests:
            task = asyncio.create_task(
                self._serve(self._endpoint, request, events.put_nowait, stream=stream)
            )
            task.add_done_callback(events.put_nowait)
            tasks[task] = request
            self._running[request.id] = task
        left = len(tasks)
        # Not a TaskGroup: closing a generator within one raises an exception group.
        try:
            while left:
                event = await events.get()
                if isinstance(event, Delta):
                    yield event
                else:
                    left -= 1
                    del self._running[tasks[event].id]
                    yield _cancelled(tasks[event]) if event.cancelled() else event.result()
        finally:
            for task, request in tasks.items():
                task.cancel()
                if self._running.get(request.id) is task:
                    del self._running[request.id]
            if tasks:
                await asyncio.wait(tasks)

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`."""
        for request_id in ids:
            if request_id in self._running:
                self._running[request_id].cancel()

    async def unload(self) -> None:
        """See `Backend.unload`."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None

    async def _serve(
        self, endpoint: Endpoint, request: Request, hand_out: HandOut, *, stream: bool
    ) -> Completion | Failure:
        if request.continuation is not None or request.peers or request.weights:
            wish = "score a given text" if request.continuation is not None else "mix experts"
            return Failure(
                request.id,
                request.expert,
                "refused",
                f"an openai endpoint cannot {wish}; choose an expert on another engine",
            )
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(1 + endpoint.args.max_retries),
            wait=self._wait_s,
            retry=retry_if_exception(_may_pass),
            before_sleep=lambda state: _log_retry(endpoint, state),
            reraise=True,
        )
        number = 0
        try:
            async for attempt in retrying:
                with attempt:
                    number = attempt.retry_state.attempt_number
                    started_s = self._now()
                    completion = await endpoint.call(
                        request, hand_out, stream=stream and request.final
                    )
                    return replace(
                        completion, generating_s=self._now() - started_s, attempts=number
                    )
        except ChatError as error:
            return Failure(
                request.id,
                request.expert,
                error.kind,
                endpoint.describe(error),
                retryable=error.fault == "stream",
                attempts=number,
            )
        raise AssertionError("the last attempt neither returned nor raised")

    def _wait_s(self, state: RetryCallState) -> float:
        error = _error(state)
        if error.retry_after_s is not None:
            # Spread out, or all who were told the same come back together.
            return error.retry_after_s + self._rng.uniform(0, FIRST_BACKOFF_S)
        longest_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (state.attempt_number - 1))
        return longest_s * self._rng.uniform(0.5, 1)


def _error(state: RetryCallState) -> ChatError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ChatError), "only these are tried again"
    return error


def _log_retry(endpoint: Endpoint, state: RetryCallState) -> None:
    what = endpoint.describe(_error(state))
    logger.warning("%s; trying again in %.1f s", what, state.upcoming_sleep)


def _may_pass(error: BaseException) -> bool:
    return (
        isinstance(error, ChatError)
        and error.fault in ("busy", "endpoint")
        and (error.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S
    )


def _cancelled(request: Request) -> Failure:
    return Failure(request.id, request.expert, "cancelled", "withdrawn before it was answered")
