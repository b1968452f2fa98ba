"""How the loss fell, how gates opened and what a router learned, while a group was fitted.

Needs matplotlib.
"""

# matplotlib is typed in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from composer.latent.training import Step

TERMS = ("entropy", "balance", "consistency")
"""What is drawn of the router's; the choice is in nats, and of another size."""

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
    """Draw the loss of each step, beside it each gate, a line a level, and each term of a router.

    Args:
        path: Where; its suffix says in which format.
        steps: Of the whole run.
    """
    numbers = range(1, len(steps) + 1)
    with mpl.rc_context(STYLE):
        gates, terms = steps[-1].gates, steps[-1].terms
        n_panels = 1 + bool(gates) + bool(terms)
        figure = Figure(figsize=(3.5 * max(n_panels, 2), 2.6), layout="constrained")
        left, *right = figure.subplots(1, n_panels, squeeze=False)[0]
        left.plot(numbers, [step.loss for step in steps], linewidth=1)
        left.set_xlabel("step")
        left.set_ylabel("nats a token of the answer")
        for axes in right[: bool(gates)]:
            for name, values in gates.items():
                for level in range(len(values)):
                    opened = [step.gates[name][level] for step in steps]
                    axes.plot(numbers, opened, linewidth=1, label=f"{name}, level {level + 1}")
            axes.set_xlabel("step")
            axes.set_ylabel("size of the gate")
            axes.legend(fontsize=7)
        for axes in right[bool(gates) :]:
            for name in TERMS:
                values = [step.terms[name] for step in steps if step.terms]
                axes.plot(numbers, values, linewidth=1, label=name)
            axes.set_xlabel("step")
            axes.set_ylabel("terms of the router")
            axes.legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
