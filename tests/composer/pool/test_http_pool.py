"""The pool over a real HTTP server that drops its connection half-way through a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from composer.experts import Expert, PoolSettings, Registry
from composer.pool.pool import Pool
from composer.types import Completion, Delta, Failure, Restart

if TYPE_CHECKING:
    from tests.composer.pool.conftest import Ask

WORDS = ("one", " two", " three")


class DroppingServer:
    """Streams chat completions; the first `n_drops` break off after two words."""

    def __init__(self, n_drops: int) -> None:
        self.n_drops = n_drops
        self.n_served = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        self.n_served += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        is_dropped = self.n_served <= self.n_drops
        for word in WORDS[:2] if is_dropped else WORDS:
            writer.write(_event({"delta": {"content": word}, "index": 0, "finish_reason": None}))
        if not is_dropped:
            writer.write(_event({"delta": {}, "index": 0, "finish_reason": "stop"}))
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _event(choice: dict[str, object]) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.fixture
async def dropping() -> AsyncIterator[tuple[DroppingServer, str]]:
    """A server on loopback that drops its first stream, and its base URL."""
    dropper = DroppingServer(n_drops=1)
    server = await asyncio.start_server(dropper.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield dropper, f"http://127.0.0.1:{port}/v1"


def remote(base_url: str, **pool: object) -> Registry:
    expert = Expert.model_validate(
        {"name": "remote", "engine": "openai", "base_url": base_url, "model": "m"}
    )
    return Registry({"remote": expert}, {}, PoolSettings.model_validate(pool), Path("experts.yaml"))


async def test_a_stream_that_breaks_off_is_restarted_and_completed(
    dropping: tuple[DroppingServer, str], ask: Ask, tmp_path: Path
) -> None:
    server, base_url = dropping
    async with Pool(remote(base_url), cache=tmp_path) as pool:
        events = [event async for event in pool.stream(ask("remote"))]
    restart = next(n for n, event in enumerate(events) if isinstance(event, Restart))
    assert [e.text for e in events[:restart] if isinstance(e, Delta)] == ["one", " two"]
    assert "".join(e.text for e in events[restart:] if isinstance(e, Delta)) == "one two three"
    last = events[-1]
    assert isinstance(last, Completion)
    assert (last.attempts, server.n_served) == (2, 2)


async def test_a_stream_that_breaks_off_once_too_often_is_a_failure(
    dropping: tuple[DroppingServer, str], ask: Ask, tmp_path: Path
) -> None:
    _, base_url = dropping
    async with Pool(remote(base_url, max_attempts=1), cache=tmp_path) as pool:
        events = [event async for event in pool.stream(ask("remote"))]
    last = events[-1]
    assert isinstance(last, Failure)
    assert last.kind == "unavailable"
    assert not any(isinstance(event, Restart) for event in events)
