"""How the loss fell while adapters were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.report.drawing import drawing_style, make_figure
from eval.report.looks import COLOURS


def draw_losses(path: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Draw the loss of each step, a line an adapter.

    Args:
        path: Where; its suffix says in which format.
        losses: Nats a token of an answer, by the adapter's name.
    """
    with drawing_style():
        figure = make_figure(504, 250)
        axes = figure.add_axes((0.09, 0.14, 0.89, 0.82))
        for number, (name, values) in enumerate(losses.items()):
            steps = range(1, len(values) + 1)
            axes.plot(steps, values, color=COLOURS[number % len(COLOURS)], linewidth=1, label=name)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("nats a token of the answer")
        axes.grid()
        axes.legend(loc="upper right", ncols=2)
        figure.savefig(path)
