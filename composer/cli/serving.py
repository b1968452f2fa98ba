"""An event loop that signals end tidily: runners are gone when the process is."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from types import FrameType
from typing import Any, Self, TypeVar

import psutil
import typer

T = TypeVar("T")

CLEAN_UP_S = 4.0
"""How long closing may take after a signal before all processes are killed."""


class EventLoop:
    """Runs coroutines one after the other; `with` it, in the main thread.

    SIGINT and SIGTERM cancel the coroutine that runs, so that what it holds is closed, and end
    the command with `typer.Exit`. If closing takes too long, or a second signal comes, this process
    and all below it are killed at once.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._task: asyncio.Task[Any] | None = None
        self._signal: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._below: list[psutil.Process] = []

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._runner.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end.

        Raises:
            typer.Exit: A signal came.
        """
        was_ending = self._signal is not None
        loop = self._runner.get_loop()
        self._task = loop.create_task(work)
        try:
            result = loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            raise typer.Exit(128 + self._signal) from None
        finally:
            self._task = None
        if self._signal is not None and not was_ending:
            raise typer.Exit(128 + self._signal)
        return result

    @contextmanager
    def entered(self, context: AbstractAsyncContextManager[T]) -> Generator[T]:
        """Enter an async context for several runs, and close it however they end."""
        value = self.run(context.__aenter__())
        try:
            yield value
        finally:
            self.run(_exit(context))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            end_all(self._below, 128 + number)
        self._signal = number
        self._below = psutil.Process().children(recursive=True)
        # Only a thread still gets a turn while the loop is kept busy, by an import for instance.
        watchdog = threading.Timer(CLEAN_UP_S, end_all, [self._below, 128 + number])
        watchdog.daemon = True
        watchdog.start()
        if self._task is None:
            raise typer.Exit(128 + number)
        self._runner.get_loop().call_soon_threadsafe(self._task.cancel)


def end_all(below: Sequence[psutil.Process], status: int) -> None:
    """Kill the processes given and every process below this one, and end this one.

    Those given were below it once: whoever lost its parent meanwhile is not found from here. All
    are stopped before any is killed, so that none starts another one that nobody knows of.
    """
    stopped: dict[int, psutil.Process] = {}
    while found := [p for p in _tree(below) if p.pid not in stopped]:
        for process in found:
            stopped[process.pid] = process
            with suppress(psutil.NoSuchProcess):
                process.suspend()
    for process in stopped.values():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(status)


def _tree(below: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes given, this one's, and all below any of them."""
    found = list(below)
    for process in [*below, psutil.Process()]:
        with suppress(psutil.NoSuchProcess):
            found.extend(process.children(recursive=True))
    return found


async def _exit(context: AbstractAsyncContextManager[Any]) -> None:
    await context.__aexit__(None, None, None)
