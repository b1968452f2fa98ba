"""How the loss fell, and how gates opened, while a group was fitted. Needs matplotlib."""

# matplotlib is typed in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from composer.latent.training import Step

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "latent",
    "svg.fonttype": "none",
}


def draw_losses(path: Path, steps: Sequence[Step]) -> None:
    """Draw the loss of each step, and beside it each gate, a line a level.

    Args:
        path: Where; its suffix says in which format.
        steps: Of the whole run.
    """
    numbers = range(1, len(steps) + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.6), layout="constrained")
        gates = steps[-1].gates
        left, *right = figure.subplots(1, 2 if gates else 1, squeeze=False)[0]
        left.plot(numbers, [step.loss for step in steps], linewidth=1)
        left.set_xlabel("step")
        left.set_ylabel("nats a token of the answer")
        for axes in right:
            for name, values in gates.items():
                for level in range(len(values)):
                    opened = [step.gates[name][level] for step in steps]
                    axes.plot(numbers, opened, linewidth=1, label=f"{name}, level {level + 1}")
            axes.set_xlabel("step")
            axes.set_ylabel("size of the gate")
            axes.legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
