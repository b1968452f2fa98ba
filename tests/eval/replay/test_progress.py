from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from eval.progress import Bars, open_bars


def test_a_bar_counts_its_rows_and_goes_when_all_are_done():
    progress = Progress(console=Console(file=StringIO()))
    advance = Bars(progress).on_rows("test oracle", 2)
    bar = progress.tasks[-1]

    advance()
    assert (bar.completed, bar.total, bar.visible) == (1, 2, True)

    advance()
    assert (bar.completed, bar.visible) == (2, False)


def test_the_bar_of_embeddings_is_there_while_some_are_missing():
    progress = Progress(console=Console(file=StringIO()))
    bars = Bars(progress)
    (bar,) = progress.tasks
    assert not bar.visible

    bars.on_embedded(5, 10)
    assert (bar.completed, bar.total, bar.visible) == (5, 10, True)

    bars.on_embedded(10, 10)
    assert not bar.visible


def test_brackets_are_said_as_they_are(capsys: pytest.CaptureFixture[str]):
    with open_bars() as bars:
        bars.say("vote-majority[k=5]: not run, [red] no answers")

    written = capsys.readouterr()
    assert written.err.strip() == "vote-majority[k=5]: not run, [red] no answers"
    assert written.out == ""
