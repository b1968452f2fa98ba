"""An engine that says what a script says: deterministic, instant unless told otherwise.

A public fake for tests, simulations and dry runs of a configuration. Its `engine_args`:

    text: "..."                what it says; `{prompt}` and `{expert}` are filled in
    replies: {"part of a prompt": "text"}   the first whose key is in the last user message wins
    failures: {"part of a prompt": kind}    as `replies`; a kind of `Failure`, or `crash` (the
                               process ends), `hang` (never answers, not even an abort), `cut`
                               (fails half-way through its text, retryable)
    logprob: -0.5              of every token, in nats
    first_token_s, token_s     seconds before the first and between further tokens
    load_s, memory_gib         what a load takes and holds
    asleep_gib                 what it keeps of the machine's memory while it sleeps at level 1, on
                               a GPU that memory_gib is of then; left out: it cannot sleep
    sleep_s, wake_s            what that takes, and what waking does; load_s more from level 2
    load_failure: "reason"     the load fails
    context: 2048              its context length in tokens
    log: "/path"               a file to which it appends the id of each request that it begins, a
                               line each; several engines, in processes of their own, may share it

A token is a word with the white space before it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from composer.backends import BACKENDS
from composer.errors import ConfigError, ExpertUnavailable
from composer.types import (
    Completion,
    Delta,
    EngineSpec,
    Failure,
    FailureKind,
    Message,
    Request,
    RequestId,
    Sample,
    TokenLogprob,
)

FAILURE_KINDS = {*get_args(FailureKind), "crash", "hang", "cut"}


@dataclass(frozen=True, slots=True)
class Script:
    """What a scripted engine does; the fields are the module's `engine_args`."""

    text: str | None = None
    replies: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    logprob: float = -0.5
    first_token_s: float = 0.0
    token_s: float = 0.0
    load_s: float = 0.0
    memory_gib: float = 0.0
    asleep_gib: float | None = None
    sleep_s: float = 0.0
    wake_s: float = 0.0
    load_failure: str | None = None
    context: int | None = None
    log: str | None = None

    @classmethod
    def read(cls, spec: EngineSpec) -> Script:
        """The script in a spec's `engine_args`.

        Raises:
            ConfigError: An argument or a kind of failure is unknown.
        """
        known = {f.name for f in fields(cls)}
        args: dict[str, Any] = dict(spec.engine_args)
        if unknown := sorted(set(args) - known):
            raise ConfigError(
                f"expert {spec.experts[0]!r}: a scripted engine has no argument {unknown[0]!r}; "
                f"choose from {sorted(known)}"
            )
        script = cls(**args)
        if odd := sorted(set(script.failures.values()) - FAILURE_KINDS):
            raise ConfigError(
                f"expert {spec.experts[0]!r}: no failure {odd[0]!r}; "
                f"choose from {sorted(FAILURE_KINDS)}"
            )
        return script

    def reply(self, request: Request) -> str | None:
        """What is said to a request; None: the script has nothing for it."""
        prompt = last_user_text(request.messages)
        text = next((t for part, t in self.replies.items() if part in prompt), self.text)
        if text is None:
            return None
        return text.replace("{prompt}", prompt).replace("{expert}", request.expert)

    def failure(self, request: Request) -> str | None:
        """How the request fails; None: it does not."""
        prompt = last_user_text(request.messages)
        return next((kind for part, kind in self.failures.items() if part in prompt), None)


class ScriptedBackend:
    """A `Backend` that follows a script."""

    def __init__(self) -> None:
        self.capabilities = BACKENDS["scripted"].capabilities
        self._script = Script()
        self._level = 0
        self._aborted: dict[RequestId, asyncio.Event] = {}

    async def load(self, spec: EngineSpec) -> None:
        """See `Backend.load`."""
        self._script = Script.read(spec)
        if self._script.log is not None:
            _append(self._script.log, "")
        await asyncio.sleep(self._script.load_s)
        if self._script.load_failure is not None:
            raise ExpertUnavailable(spec.experts[0], self._script.load_failure)

    async def generate(
        self, requests: Sequence[Request], *, stream: bool
    ) -> AsyncGenerator[Delta | Completion | Failure]:
        """See `Backend.generate`."""
        assert not self._level, "an engine that sleeps was asked"
        events: asyncio.Queue[Delta | Completion | Failure | BaseException] = asyncio.Queue()

        def tell(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (wrong := task.exception()) is not None:
                events.put_nowait(wrong)

        for request in requests:
            self._aborted[request.id] = asyncio.Event()
        running = [
            asyncio.create_task(self._run(r, events, stream=stream and r.final)) for r in requests
        ]
        for task in running:
            task.add_done_callback(tell)
        left = len(requests)
        try:
            while left:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                left -= not isinstance(event, Delta)
                yield event
        finally:
            for task in running:
                task.cancel()
            for request in requests:
                self._aborted.pop(request.id, None)

    async def abort(self, ids: Sequence[RequestId]) -> None:
        """See `Backend.abort`."""
        for request_id in ids:
            if request_id in self._aborted:
                self._aborted[request_id].set()

    async def unload(self) -> None:
        """See `Backend.unload`."""
        self._level = 0

    async def sleep(self, level: Literal[1, 2]) -> None:
        """See `Sleeper.sleep`."""
        self._level = level
        await asyncio.sleep(self._script.sleep_s)

    async def wake(self) -> None:
        """See `Sleeper.wake`."""
        reload_s = self._script.load_s if self._level == 2 else 0.0
        await asyncio.sleep(self._script.wake_s + reload_s)
        self._level = 0

    async def _run(
        self,
        request: Request,
        events: asyncio.Queue[Delta | Completion | Failure | BaseException],
        *,
        stream: bool,
    ) -> None:
        script = self._script
        if script.log is not None:
            _append(script.log, f"{request.id}\n")
        text, failure = script.reply(request), script.failure(request)
        started_s = asyncio.get_running_loop().time()
        if failure == "crash":
            os._exit(1)
        if failure == "hang":
            await asyncio.Event().wait()
        if text is None and failure is None:
            failure = "refused"
        if failure is not None and failure != "cut":
            kind: Any = failure
            retryable = failure == "unavailable"
            await events.put(_failed(request, kind, "as its script says", retryable=retryable))
            return
        tokens = split_tokens(text or "")[: request.sampling.max_tokens]
        for number, token in enumerate(tokens):
            await self._pause(request, script.token_s if number else script.first_token_s)
            if self._aborted[request.id].is_set():
                await events.put(_failed(request, "cancelled", "withdrawn", retryable=False))
                return
            if failure == "cut" and number >= len(tokens) // 2:
                await events.put(
                    _failed(request, "unavailable", "cut by its script", retryable=True)
                )
                return
            if stream:
                await events.put(Delta(request.id, request.expert, token))
        await events.put(
            _completion(request, script, asyncio.get_running_loop().time() - started_s)
        )

    async def _pause(self, request: Request, seconds: float) -> None:
        if seconds:
            try:
                async with asyncio.timeout(seconds):
                    await self._aborted[request.id].wait()
            except TimeoutError:
                return


def split_tokens(text: str) -> list[str]:
    """Words with the white space before them; joined they are the text again."""
    return re.findall(r"\s*\S+|\s+$", text)


def last_user_text(messages: Sequence[Message]) -> str:
    """The text that a script's keys are looked for in."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def _append(path: str, text: str) -> None:
    """Append in one write, which the kernel keeps apart from those of other processes."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror}); name another log") from exc
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _completion(request: Request, script: Script, generating_s: float) -> Completion:
    scored = request.continuation is not None
    text = request.continuation if request.continuation is not None else script.reply(request) or ""
    words = split_tokens(text)
    limit = None if scored else request.sampling.max_tokens
    tokens = words[:limit]
    want_logprobs = scored or request.logprobs is not None
    sample = Sample(
        "".join(tokens),
        "scored" if scored else "stop" if len(tokens) == len(words) else "length",
        len(tokens),
        tuple(TokenLogprob(t, script.logprob, ((t, script.logprob),)) for t in tokens)
        if want_logprobs
        else None,
    )
    return Completion(
        request.id,
        request.expert,
        (sample,) * (request.sampling.n or 1),
        sum(len(split_tokens(m.content)) for m in request.messages),
        generating_s=generating_s,
    )


def _failed(request: Request, kind: FailureKind, message: str, *, retryable: bool) -> Failure:
    return Failure(request.id, request.expert, kind, message, retryable)
