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

    def on_embedded(self, done: int, total: int) -> None:
        """Show how many texts are embedded."""
        self._progress.update(
            self._embedding, completed=done, total=total, visible=done < total, refresh=True
        )

    def on_rows(self, name: str, total: int) -> Callable[[], None]:
        """Begin a bar; what is returned is called after each of its steps."""
        task = self._progress.add_task(name, total=total)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self._progress.update(task, completed=done, visible=done < total)

        return advance

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(message, highlight=False, markup=False)


@contextmanager
def open_bars() -> Generator[Bars]:
    """Bars on stderr, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield Bars(progress)
