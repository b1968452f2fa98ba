from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress, Task

from eval.progress import Bars, open_bars


def bar_of(progress: Progress, description: str) -> Task:
    (task,) = (task for task in progress.tasks if task.description == description)
    return task


def test_a_bar_counts_its_rows_and_gives_way_to_the_next():
    progress = Progress(console=Console(file=StringIO()))
    bars = Bars(progress)
    advance = bars.on_rows("test oracle", 2)

    advance()
    bar = bar_of(progress, "test oracle")
    assert (bar.completed, bar.total, bar.visible) == (1, 2, True)

    bars.on_rows("test neighbours", 3)
    assert bar_of(progress, "test neighbours").completed == 0
    assert len(progress.tasks) == 2


def test_the_bar_of_embeddings_is_there_while_some_are_missing():
    progress = Progress(console=Console(file=StringIO()))
    bars = Bars(progress)
    bar = bar_of(progress, "embedding")
    assert not bar.visible

    bars.on_embedded(5, 10)
    assert (bar.completed, bar.total, bar.visible) == (5, 10, True)

    bars.on_embedded(10, 10)
    assert not bar.visible


def test_brackets_are_said_as_they_are(capsys: pytest.CaptureFixture[str]):
    with open_bars() as bars:
        bars.say("vote-majority[k=5]: not run, [red] no answers")

    written = capsys.readouterr()
    assert written.err == "vote-majority[k=5]: not run, [red] no answers\n"
    assert written.out == ""
