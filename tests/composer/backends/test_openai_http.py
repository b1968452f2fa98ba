from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from composer.backends.circuit_breaker import CircuitBreaker
from composer.backends.openai_http import OpenAIBackend
from composer.errors import ConfigError
from composer.types import (
    Completion,
    Delta,
    EngineSpec,
    Failure,
    Message,
    Request,
    Sampling,
    TokenLogprob,
)

KEY = "sk-very-secret-0123456789"
SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16, stop=(), n=1)
ASKED = Request("q/a", "remote", (Message("user", "hello"),), SAMPLING, final=True)
NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

Event = Delta | Completion | Failure
Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def raw(status: int, body: str | bytes, headers: str = "") -> Reply:
    """Answers with this body."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = body.encode() if isinstance(body, str) else body
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
            + content
        )

    return reply


def says(text: str, **more: Any) -> Reply:
    """Answers with a completion of this text."""
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    return raw(200, json.dumps({"choices": [choice], "usage": usage}))


def streams(*chunks: str, is_cut: bool = False) -> Reply:
    """Streams these chunks; cut: drops the connection after them instead of ending the body."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for chunk in chunks:
            content = chunk.encode()
            writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            await writer.drain()
        if not is_cut:
            writer.write(b"0\r\n\r\n")

    return reply


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the client leaves."""
    await reader.read()


async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes the connection without a word."""


def then_hang(reply: Reply) -> Reply:
    """Says this and nothing more until the client leaves."""

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reply(reader, writer)
        await hang(reader, writer)

    return both


def piece(text: str, **more: Any) -> str:
    """One event with a piece of the text."""
    return (
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}, **more}]})}\n\n"
    )


END = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}\n\n'
DONE = "data: [DONE]\n\n"


@dataclass
class Server:
    """An endpoint that gives the replies it was handed, the last of them for ever."""

    url: str
    replies: list[Reply]
    heads: list[str] = field(default_factory=list[str])
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a connection has ended."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1])
            for line in head.splitlines()
            if line.lower().startswith("content-length")
        )
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self.heads.append(head)
        self.asked.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        try:
            await reply(reader, writer)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.left.set()


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncGenerator[Server]:
    server = Server("", list(replies))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    async with listener:
        yield server


@dataclass
class Bench:
    """A backend whose waits take no time and are written down."""

    backend: OpenAIBackend
    server: Server
    waits: list[float]
    clock_s: list[float]


@asynccontextmanager
async def remote(*replies: Reply, **args: Any) -> AsyncGenerator[Bench]:
    """An endpoint that gives these replies, and a backend loaded for it."""
    waits: list[float] = []
    clock_s = [0.0]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    backend = OpenAIBackend(
        sleep=sleep,
        now=lambda: clock_s[0],
        wall_clock=lambda: NOON,
        rng=random.Random(1),
        breakers={},
    )
    async with serving(*replies) as server:
        await backend.load(spec(base_url=server.url, model="m", **args))
        try:
            yield Bench(backend, server, waits, clock_s)
        finally:
            await backend.unload()


def spec(**args: Any) -> EngineSpec:
    return EngineSpec("remote", "openai", "inline", ("remote",), engine_args=args)


async def ask(
    bench: Bench, *requests: Request, stream: bool = False
) -> tuple[list[Event], Completion | Failure]:
    """All events, and the last of them."""
    events = [e async for e in bench.backend.generate(requests or (ASKED,), stream=stream)]
    outcome = events[-1]
    assert not isinstance(outcome, Delta)
    return events, outcome


async def fails(bench: Bench, *requests: Request, stream: bool = False) -> Failure:
    _, outcome = await ask(bench, *requests, stream=stream)
    assert isinstance(outcome, Failure)
    return outcome


async def test_a_completion_holds_what_the_server_said() -> None:
    async with remote(says("hi", finish_reason="length")) as bench:
        events, outcome = await ask(bench)
    assert isinstance(outcome, Completion)
    assert len(events) == 1
    assert (outcome.request_id, outcome.expert, outcome.text) == ("q/a", "remote", "hi")
    assert outcome.samples[0].finish_reason == "length"
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (5, 2)
    assert (outcome.attempts, outcome.cost_usd) == (1, 0.0)
    assert bench.server.heads[0].startswith("POST /v1/chat/completions ")
    assert bench.server.bodies[0]["model"] == "m"


async def test_generating_s_is_the_time_of_the_attempt_that_succeeded() -> None:
    async with remote(hang) as bench:

        def taking(seconds: float, reply: Reply) -> Reply:
            async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                bench.clock_s[0] += seconds
                await reply(reader, writer)

            return both

        bench.server.replies[:] = [taking(5.0, raw(500, "")), taking(7.0, says("hi"))]
        _, outcome = await ask(bench)
    assert isinstance(outcome, Completion)
    assert (outcome.generating_s, outcome.attempts) == (7.0, 2)


async def test_several_requests_run_together_and_each_has_one_outcome() -> None:
    everyone_is_here = asyncio.Barrier(3)

    async def answer_together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everyone_is_here.wait()
        await says("hi")(reader, writer)

    requests = [replace(ASKED, id=f"q/{i}") for i in range(3)]
    async with remote(answer_together) as bench:
        events, _ = await ask(bench, *requests)
    assert {e.request_id for e in events} == {"q/0", "q/1", "q/2"}
    assert len(events) == 3


async def test_logprobs_are_read() -> None:
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.0}]}]
    async with remote(says("a", logprobs={"content": content})) as bench:
        _, outcome = await ask(bench, replace(ASKED, logprobs=1))
    assert isinstance(outcome, Completion)
    assert outcome.samples[0].logprobs == (TokenLogprob("a", -0.5, (("b", -1.0),)),)
    assert bench.server.bodies[0]["top_logprobs"] == 1


async def test_a_stream_gives_deltas_that_add_up_to_the_text() -> None:
    reply = streams(
        ": ping\n\n", piece("Hé"), piece("llo")[:20], piece("llo")[20:], END, USAGE, DONE
    )
    async with remote(reply) as bench:
        events, outcome = await ask(bench, stream=True)
    assert isinstance(outcome, Completion)
    assert [e.text for e in events if isinstance(e, Delta)] == ["Hé", "llo"]
    assert (outcome.text, outcome.samples[0].finish_reason) == ("Héllo", "stop")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (9, 4)
    assert bench.server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_streamed_reply_holds_its_logprobs() -> None:
    chunks = [
        piece(t, logprobs={"content": [{"token": t, "logprob": -1.0, "top_logprobs": []}]})
        for t in "ab"
    ]
    async with remote(streams(*chunks, END, DONE)) as bench:
        _, outcome = await ask(bench, replace(ASKED, logprobs=0), stream=True)
    assert isinstance(outcome, Completion)
    assert outcome.samples[0].logprobs == (TokenLogprob("a", -1.0), TokenLogprob("b", -1.0))


async def test_a_request_that_is_not_final_is_not_streamed() -> None:
    async with remote(says("hi")) as bench:
        events, _ = await ask(bench, replace(ASKED, final=False), stream=True)
    assert len(events) == 1
    assert "stream" not in bench.server.bodies[0]


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_stream_that_ends_half_way_is_no_answer_and_may_begin_anew(is_cut: bool) -> None:
    async with remote(streams(piece("Hel"), piece("lo"), is_cut=is_cut)) as bench:
        events, outcome = await ask(bench, stream=True)
    assert isinstance(outcome, Failure)
    assert [e.text for e in events if isinstance(e, Delta)] == ["Hel", "lo"]
    assert (outcome.kind, outcome.retryable, outcome.attempts) == ("unavailable", True, 1)
    assert bench.server.url in outcome.message
    assert "the stream broke after 5 characters" in outcome.message
    assert len(bench.server.bodies) == 1


async def test_a_stream_that_breaks_before_any_text_is_asked_again() -> None:
    replies = [streams(": ping\n\n", is_cut=True), streams(piece("hi"), END, DONE)]
    async with remote(*replies) as bench:
        _, outcome = await ask(bench, stream=True)
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.attempts) == ("hi", 2)


async def test_a_stream_that_lacks_only_its_last_word_is_an_answer() -> None:
    async with remote(streams(piece("hi"), END, is_cut=True)) as bench:
        _, outcome = await ask(bench, stream=True)
    assert isinstance(outcome, Completion)
    assert outcome.text == "hi"


@pytest.mark.parametrize("code", [429, 500])
async def test_an_error_in_the_stream_after_text_is_a_broken_stream(code: int) -> None:
    error = f"data: {json.dumps({'error': {'message': 'out of memory', 'code': code}})}\n\n"
    async with remote(streams(piece("hi"), error)) as bench:
        failure = await fails(bench, stream=True)
    assert (failure.kind, failure.retryable) == ("unavailable", True)
    assert "out of memory" in failure.message
    assert bench.waits == []


async def test_a_chunk_that_is_no_json_is_bad_output() -> None:
    async with remote(streams("data: {oops\n\n")) as bench:
        failure = await fails(bench, stream=True)
    assert (failure.kind, failure.retryable) == ("bad_output", False)


async def test_a_server_that_does_not_stream_is_bad_output() -> None:
    async with remote(says("hi")) as bench:
        failure = await fails(bench, stream=True)
    assert failure.kind == "bad_output"
    assert "does not stream" in failure.message


async def test_waits_between_attempts_grow_and_are_jittered_alike_under_one_seed() -> None:
    waits: list[list[float]] = []
    for _ in range(2):
        async with remote(raw(503, ""), raw(503, ""), drop, says("hi")) as bench:
            _, outcome = await ask(bench)
        assert isinstance(outcome, Completion)
        assert outcome.attempts == 4
        waits.append(bench.waits)
    assert waits[0] == waits[1]
    for wait, longest in zip(waits[0], [0.5, 1.0, 2.0], strict=True):
        assert longest / 2 <= wait <= longest


async def test_a_wait_is_never_longer_than_the_cap() -> None:
    async with remote(raw(429, ""), max_retries=8) as bench:
        await fails(bench)
    assert len(bench.waits) == 8
    assert max(bench.waits) <= 8.0


@pytest.mark.parametrize(
    "retry_after", ["3", "Thu, 01 Jan 2026 12:00:03 GMT", "Thu, 01 Jan 2026 12:00:03 -0000"]
)
async def test_the_server_says_when_to_come_back(retry_after: str) -> None:
    busy = raw(429, "", f"Retry-After: {retry_after}\r\n")
    async with remote(busy, says("hi")) as bench:
        _, outcome = await ask(bench)
    assert isinstance(outcome, Completion)
    assert 3.0 <= bench.waits[0] <= 3.5


@pytest.mark.parametrize("retry_after", ["soon", "²", "-1"])
async def test_a_retry_after_that_makes_no_sense_is_passed_over(retry_after: str) -> None:
    busy = raw(429, "", f"Retry-After: {retry_after}\r\n")
    async with remote(busy, says("hi")) as bench:
        _, outcome = await ask(bench)
    assert isinstance(outcome, Completion)
    assert bench.waits[0] <= 0.5


async def test_a_server_that_asks_for_an_hour_is_given_up_on() -> None:
    async with remote(raw(429, "", "Retry-After: 3600\r\n")) as bench:
        failure = await fails(bench)
    assert (failure.kind, failure.attempts) == ("unavailable", 1)
    assert bench.waits == []


async def test_after_the_last_attempt_the_failure_is_final() -> None:
    async with remote(raw(500, '{"error": {"message": "boom"}}'), max_retries=2) as bench:
        failure = await fails(bench)
    assert (failure.kind, failure.retryable, failure.attempts) == ("unavailable", False, 3)
    assert "HTTP 500: boom" in failure.message
    assert len(bench.server.bodies) == 3


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with serving(drop) as gone:
        pass
    async with remote(drop) as bench:
        await bench.backend.unload()
        await bench.backend.load(spec(base_url=gone.url, model="m", max_retries=1))
        failure = await fails(bench)
    assert (failure.kind, failure.attempts) == ("unavailable", 2)
    assert "cannot be reached" in failure.message
    assert gone.url in failure.message


async def test_a_server_that_stays_silent_is_a_timeout() -> None:
    async with remote(hang, timeout_s=0.05, max_retries=1) as bench:
        failure = await fails(bench)
    assert (failure.kind, failure.attempts) == ("timeout", 2)
    assert "said nothing for 0.05 s" in failure.message


@pytest.mark.parametrize("body", ["<html>", "{}", '{"choices": [{}]}'])
async def test_a_reply_without_choices_is_bad_output(body: str) -> None:
    async with remote(raw(200, body)) as bench:
        failure = await fails(bench)
    assert (failure.kind, failure.retryable, failure.attempts) == ("bad_output", False, 1)


async def test_fewer_samples_than_asked_for_are_bad_output() -> None:
    async with remote(says("hi")) as bench:
        failure = await fails(bench, replace(ASKED, sampling=replace(SAMPLING, n=2)))
    assert failure.kind == "bad_output"
    assert "1 of the 2 samples" in failure.message


async def test_a_prompt_that_does_not_fit_is_too_long() -> None:
    body = '{"error": {"message": "This model\'s maximum context length is 8 tokens"}}'
    async with remote(raw(400, body)) as bench:
        failure = await fails(bench)
    assert (failure.kind, failure.attempts) == ("too_long", 1)


async def test_what_the_server_rejects_is_refused_in_its_own_words() -> None:
    body = json.dumps({"error": {"message": "top_p must\nbe positive " + "x" * 1000}})
    async with remote(raw(400, body)) as bench:
        failure = await fails(bench)
    assert failure.kind == "refused"
    assert "HTTP 400: top_p must be positive xxx" in failure.message
    assert len(failure.message) < 600


async def test_an_unknown_model_is_refused() -> None:
    async with remote(raw(404, '{"detail": "Not Found"}')) as bench:
        failure = await fails(bench)
    assert failure.kind == "refused"
    assert "base_url" in failure.message


@pytest.mark.parametrize(
    "change",
    [{"continuation": "yes"}, {"peers": ("b",), "mix": "average"}, {"weights": (1.0,)}],
)
async def test_what_chat_completions_cannot_do_is_refused_unsent(change: Any) -> None:
    async with remote(says("hi")) as bench:
        failure = await fails(bench, replace(ASKED, **change))
    assert failure.kind == "refused"
    assert bench.server.bodies == []


async def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_API_KEY", KEY + "\n")
    monkeypatch.setenv("TEST_TEAM", "team-secret")
    caplog.set_level(logging.DEBUG)
    args: dict[str, Any] = {
        "api_key": "os.environ/TEST_API_KEY",
        "headers": {"X-Team": "${TEST_TEAM}", "X-Plain": "plain"},
    }
    echo = json.dumps({"error": {"message": f"wrong key {KEY} of team-secret"}})
    async with remote(raw(500, echo), raw(401, echo), **args) as bench:
        failure = await fails(bench)
        shown = repr(bench.backend) + repr(vars(bench.backend)) + repr(failure) + caplog.text
    assert f"Bearer {KEY}\r\n" in bench.server.heads[0]
    assert "team-secret\r\n" in bench.server.heads[0]
    assert "X-Plain: plain\r\n" in bench.server.heads[0]
    assert failure.kind == "refused"
    assert "wrong key *** of ***" in failure.message
    assert "'os.environ/TEST_API_KEY'" in failure.message
    assert "trying again" in caplog.text
    assert KEY not in shown
    assert "team-secret" not in shown


async def test_a_missing_key_is_asked_for() -> None:
    async with remote(raw(401, "")) as bench:
        failure = await fails(bench)
    assert "set engine_args.api_key" in failure.message


async def test_an_endpoint_that_keeps_failing_is_left_alone_and_then_tried_by_one_probe() -> None:
    async with remote(*[raw(500, "")] * 5, says("hi"), max_retries=0) as bench:
        for _ in range(5):
            await fails(bench)
        bench.clock_s[0] = 10.0
        left_alone = await fails(bench)
        assert len(bench.server.bodies) == 5
        bench.clock_s[0] = 31.0
        events, _ = await ask(bench, replace(ASKED, id="q/1"), replace(ASKED, id="q/2"))
        _, after = await ask(bench)
    assert (left_alone.kind, left_alone.retryable) == ("unavailable", False)
    assert "for 20 s more" in left_alone.message
    assert sorted(type(e).__name__ for e in events) == ["Completion", "Failure"]
    assert isinstance(after, Completion)


async def test_requests_that_the_server_rejects_do_not_count_against_it() -> None:
    async with remote(raw(400, "")) as bench:
        for _ in range(6):
            await fails(bench)
    assert len(bench.server.bodies) == 6


async def test_two_models_of_one_endpoint_share_what_is_known_of_it() -> None:
    breakers: dict[str, CircuitBreaker] = {}
    async with serving(raw(500, "")) as server:
        for model, url in [("a", server.url), ("b", server.url + "/")]:
            backend = OpenAIBackend(breakers=breakers)
            await backend.load(spec(base_url=url, model=model))
            await backend.unload()
    assert len(breakers) == 1


async def test_an_aborted_request_is_cancelled_and_the_rest_answer() -> None:
    async with remote(hang) as bench:
        events = aiter(bench.backend.generate((ASKED,), stream=False))
        first = asyncio.ensure_future(anext(events))
        await bench.server.asked.wait()
        bench.server.replies[:] = [says("hi")]
        _, other = await ask(bench, replace(ASKED, id="q/b"))
        await bench.backend.abort(["q/a", "unknown"])
        aborted = await first
        assert [event async for event in events] == []
        await bench.server.left.wait()
    assert isinstance(other, Completion)
    assert isinstance(aborted, Failure)
    assert (aborted.kind, aborted.retryable) == ("cancelled", False)


async def test_a_request_that_waits_for_its_next_attempt_can_be_aborted() -> None:
    waits = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    backend = OpenAIBackend(sleep=sleep, breakers={})
    async with serving(raw(429, "")) as server:
        await backend.load(spec(base_url=server.url, model="m"))
        bench = Bench(backend, server, [], [])
        outcome = asyncio.create_task(fails(bench))
        await waits.wait()
        await backend.abort(["q/a"])
        assert (await outcome).kind == "cancelled"
        await backend.unload()


async def test_unloading_cancels_what_runs() -> None:
    async with remote(hang) as bench:
        outcome = asyncio.create_task(fails(bench))
        await bench.server.asked.wait()
        await bench.backend.unload()
    assert (await outcome).kind == "cancelled"


async def test_closing_the_generator_ends_its_requests() -> None:
    async with remote(then_hang(streams(piece("hi"), is_cut=True))) as bench:
        before = asyncio.all_tasks()
        requests = (ASKED, replace(ASKED, id="q/b"))
        events = bench.backend.generate(requests, stream=True)
        assert isinstance(await anext(aiter(events)), Delta)
        await events.aclose()
        await bench.server.left.wait()
        ours = {t for t in asyncio.all_tasks() - before if "_serve" in repr(t)}
        assert ours == set()


async def test_an_engine_can_be_loaded_again_after_it_was_unloaded() -> None:
    async with remote(says("hi")) as bench:
        await bench.backend.unload()
        await bench.backend.load(spec(base_url=bench.server.url, model="other"))
        await ask(bench)
    assert bench.server.bodies[0]["model"] == "other"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"model": "m"}, "'base_url': field required"),
        ({"base_url": "http://h/v1", "model": "m", "modle": "m"}, "'modle'"),
        ({"base_url": "http://h/v1", "model": "m", "timeout_s": 0}, "'timeout_s'"),
        ({"base_url": "http://h/v1", "model": "m", "headers": {"X": "ü"}}, "'headers.X'"),
        ({"base_url": "h/v1", "model": "m"}, "must be http"),
        ({"base_url": "http://h:port/v1", "model": "m"}, "is no URL"),
        ({"base_url": "http://me:pw@h/v1", "model": "m"}, "password"),
        ({"base_url": "http://h/v1", "model": "m", "api_key": "${UNSET_KEY}"}, "UNSET_KEY"),
    ],
)
async def test_arguments_that_cannot_work_are_configuration_errors(
    args: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await OpenAIBackend(breakers={}).load(spec(**args))
    assert words in str(caught.value)
    assert "pw" not in str(caught.value)


async def test_a_key_that_fits_no_header_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_API_KEY", "schlüssel")
    args = {"base_url": "http://h/v1", "model": "m", "api_key": "${TEST_API_KEY}"}
    with pytest.raises(ConfigError, match="TEST_API_KEY") as caught:
        await OpenAIBackend(breakers={}).load(spec(**args))
    assert "schl" not in str(caught.value)
