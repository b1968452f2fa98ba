"""Progress on stderr of what takes long."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bars:
    """Progress bars that come and go; silent where stderr is no terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._embedding = progress.add_task("embedding", visible=False, total=None)
        self._rows = progress.add_task("", visible=False, total=None)

    def on_embedded(self, done: int, total: int) -> None:
        """Show how many texts are embedded."""
        self._progress.update(
            self._embedding, completed=done, total=total, visible=done < total, refresh=True
        )

    def on_rows(self, name: str, total: int) -> Callable[[], None]:
        """Begin a bar in place of the last one; what is returned is called after each step."""
        self._progress.reset(self._rows, description=name, total=total, visible=True)

        def advance() -> None:
            self._progress.advance(self._rows)

        return advance

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def open_bars() -> Generator[Bars]:
    """Bars on stderr, gone when done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield Bars(progress)
