"""What every backend promises, held against those that need no model."""

import asyncio
import gzip
import json
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from composer.backends import BACKENDS
from composer.protocols import Backend
from composer.types import Completion, Delta, EngineSpec, Failure, Message, Request, Sampling

PROMPT = "hi"
TEXT = "one two three"
LIMIT_S = 10.0

Event = Delta | Completion | Failure


@asynccontextmanager
async def scripted(is_slow: bool) -> AsyncGenerator[dict[str, Any]]:
    """Arguments of an engine that says TEXT; a slow one says nothing for an hour."""
    yield {"text": TEXT, "first_token_s": 3600 if is_slow else 0}


@asynccontextmanager
async def openai(is_slow: bool) -> AsyncGenerator[dict[str, Any]]:
    """Arguments for a loopback endpoint that says TEXT; a slow one says nothing at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = next(line for line in head.splitlines() if line.startswith("content-length"))
        asked = json.loads(await reader.readexactly(int(size.split(":")[1])))
        if is_slow:
            await reader.read()
        else:
            writer.write(streamed() if asked.get("stream") else whole())
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield {"base_url": f"http://127.0.0.1:{port}/v1", "model": "m"}


@asynccontextmanager
async def recorded(is_slow: bool) -> AsyncGenerator[dict[str, Any]]:
    """Arguments for a folder in which a model said TEXT to every request's prompt."""
    assert not is_slow, "a replay is never slow"
    rows = {
        "queries": {"id": "q", "prompt": PROMPT},
        "outcomes": {"query_id": "q", "model": "m", "score": 1},
        "responses": {"query_id": "q", "model": "m", "response": TEXT},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, row in rows.items():
            packed = gzip.compress(json.dumps(row).encode())
            (Path(folder) / f"{name}.jsonl.gz").write_bytes(packed)
        yield {"folder": folder, "model": "m"}


def whole() -> bytes:
    choice = {"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    return http("application/json", json.dumps({"choices": [choice], "usage": usage}))


def streamed() -> bytes:
    choices = [{"index": 0, "delta": {"content": piece}} for piece in ("one", " two", " three")]
    end = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
    events = [*(json.dumps({"choices": [choice]}) for choice in choices), end, "[DONE]"]
    return http("text/event-stream", "".join(f"data: {event}\n\n" for event in events))


def http(kind: str, body: str) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode()


ENGINES: dict[str, Callable[[bool], AbstractAsyncContextManager[dict[str, Any]]]] = {
    "scripted": scripted,
    "openai": openai,
    "recorded": recorded,
}
NEED_A_MODEL = {"latent", "vllm"}
ARE_INSTANT = {"recorded"}
"""A request is over as soon as it is begun: there is never one to abort."""

every_engine = pytest.mark.parametrize("engine", sorted(ENGINES))
every_engine_that_takes_time = pytest.mark.parametrize(
    "engine", sorted(ENGINES.keys() - ARE_INSTANT)
)


@asynccontextmanager
async def loaded(engine: str, *, is_slow: bool = False) -> AsyncGenerator[Backend]:
    """A backend with its engine up."""
    async with asyncio.timeout(LIMIT_S), ENGINES[engine](is_slow) as args:
        backend = BACKENDS[engine].make()
        await backend.load(spec(engine, args))
        try:
            yield backend
        finally:
            await backend.unload()


def spec(engine: str, args: dict[str, Any]) -> EngineSpec:
    return EngineSpec("ann", engine, "inline", ("ann",), engine_args=args)


def ask(number: int, *, final: bool = True) -> Request:
    sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=16, stop=(), n=1)
    return Request(f"q/{number}", "ann", (Message("user", PROMPT),), sampling, final=final)


async def run(backend: Backend, *requests: Request, stream: bool = False) -> list[Event]:
    return [event async for event in backend.generate(requests, stream=stream)]


def test_every_backend_is_held_to_the_contract_or_needs_a_model() -> None:
    assert set(ENGINES) | NEED_A_MODEL == set(BACKENDS)


@every_engine
async def test_each_request_has_exactly_one_outcome(engine: str) -> None:
    requests = [ask(number) for number in range(5)]
    async with loaded(engine) as backend:
        events = await run(backend, *requests)
    assert sorted(e.request_id for e in events) == [r.id for r in requests]
    for event in events:
        assert isinstance(event, Completion)
        assert event.expert == "ann"
        assert event.text == TEXT
        assert event.prompt_tokens > 0
        assert event.completion_tokens == 3


@every_engine
async def test_deltas_come_before_their_outcome_and_add_up_to_its_text(engine: str) -> None:
    async with loaded(engine) as backend:
        events = await run(backend, ask(1), ask(2), ask(3, final=False), stream=True)
    said: dict[str, str] = {"q/1": "", "q/2": "", "q/3": ""}
    ended: dict[str, str] = {}
    for event in events:
        assert event.request_id not in ended
        if isinstance(event, Delta):
            said[event.request_id] += event.text
        else:
            assert isinstance(event, Completion)
            ended[event.request_id] = event.text
    assert ended == dict.fromkeys(said, TEXT)
    assert said == {"q/1": TEXT, "q/2": TEXT, "q/3": ""}


@every_engine
async def test_what_is_not_to_be_streamed_is_not(engine: str) -> None:
    async with loaded(engine) as backend:
        assert [type(e) for e in await run(backend, ask(1), stream=False)] == [Completion]


@every_engine_that_takes_time
async def test_an_aborted_request_is_acknowledged_as_cancelled(engine: str) -> None:
    async with loaded(engine, is_slow=True) as backend:
        running = asyncio.create_task(run(backend, ask(1), ask(2)))
        while not running.done():
            await backend.abort(["q/1", "q/2", "unknown"])
            await asyncio.sleep(0)
        events = running.result()
    assert sorted(e.request_id for e in events) == ["q/1", "q/2"]
    for event in events:
        assert isinstance(event, Failure)
        assert (event.kind, event.retryable) == ("cancelled", False)


@every_engine
async def test_closing_the_generator_leaves_the_backend_usable(engine: str) -> None:
    async with loaded(engine) as backend:
        events = backend.generate([ask(1), ask(2)], stream=True)
        await anext(events)
        assert isinstance(events, AsyncGenerator)
        await events.aclose()
        (outcome,) = await run(backend, ask(1))
    assert isinstance(outcome, Completion)


@every_engine
async def test_several_calls_may_be_under_way_at_once(engine: str) -> None:
    async with loaded(engine) as backend, asyncio.TaskGroup() as calls:
        tasks = [calls.create_task(run(backend, ask(n), stream=n % 2 == 0)) for n in range(4)]
    for number, task in enumerate(tasks):
        events = task.result()
        assert {e.request_id for e in events} == {f"q/{number}"}
        assert isinstance(events[-1], Completion)
        assert events[-1].text == TEXT


@every_engine
async def test_an_engine_may_be_loaded_again_after_it_was_unloaded(engine: str) -> None:
    async with asyncio.timeout(LIMIT_S), ENGINES[engine](False) as args:
        backend = BACKENDS[engine].make()
        for number in range(2):
            await backend.load(spec(engine, args))
            (outcome,) = await run(backend, ask(number))
            assert isinstance(outcome, Completion)
            assert outcome.text == TEXT
            await backend.unload()


@every_engine
async def test_a_wish_that_it_is_not_capable_of_fails_as_a_value(engine: str) -> None:
    async with loaded(engine) as backend:
        scored = replace(ask(1), continuation="given", logprobs=0)
        (outcome,) = await run(backend, scored)
        assert isinstance(outcome, Completion) == backend.capabilities.continuation
