"""The line between a pool and a runner's process: values over one TCP connection.

Ray starts, loads and ends the processes. Requests and what comes of them do not pass through it: a
Ray call costs milliseconds of several threads' time, a message here some tens of microseconds, and
there is one for every token that is streamed. The end of the line is the end of the process.

Values are pickled, as Ray does it, so a listener takes one caller only, who must first show a token
that went through Ray; where pool and process share a machine it listens on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import pickle
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Address:
    """Where a runner listens, and what a caller must show."""

    host: str
    port: int
    token: bytes


class Channel:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        connection = writer.get_extra_info("socket")
        if isinstance(connection, socket.socket) or hasattr(connection, "setsockopt"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, value: Any) -> None:
        """Send a value, without waiting until it is there."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    async def receive(self) -> Any:
        """Wait for the next value.

        Raises:
            EOFError: The other end is gone.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            return pickle.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise EOFError from exc

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def listen(host: str, serve: Callable[[Channel], Awaitable[None]]) -> Address:
    """Listen for the one caller who knows the token, and serve it until it hangs up."""
    token = secrets.token_bytes(32)
    is_taken = False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal is_taken
        shown = b""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            shown = await reader.readexactly(len(token))
        if is_taken or not hmac.compare_digest(shown, token):
            writer.close()
            return
        is_taken = True
        server.close()
        with contextlib.suppress(EOFError):
            await serve(Channel(reader, writer))
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    return Address(host, server.sockets[0].getsockname()[1], token)


async def connect(address: Address) -> Channel:
    """Call a runner.

    Raises:
        OSError: It does not answer.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(address.token)
    return Channel(reader, writer)
