"""The curves of methods, accuracy against cost, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import StrMethodFormatter

from composer.errors import ConfigError
from eval.metrics import nondecreasing_hull
from eval.report.drawing import drawing_style, make_figure
from eval.report.looks import COLOURS, GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = tuple[NDArray[np.float64], NDArray[np.float64]]

KINDS = (".pdf", ".png", ".svg")


def draw_curves(path: Path, curves: Mapping[str, Points], experts: Points, title: str) -> None:
    """Draw the hull of each method's points, its points, and every expert alone.

    Args:
        path: Where; its suffix says in which format.
        curves: Costs in USD a query and accuracies, by method.
        experts: The same of each expert.
        title: Of the picture.

    Raises:
        ConfigError: The format is not one of `KINDS`, or there is no such folder.
    """
    if path.suffix not in KINDS or not path.parent.is_dir():
        raise ConfigError(
            f"cannot draw {str(path)!r}; name a file that ends in one of {list(KINDS)}, in a "
            "folder that exists"
        )
    with drawing_style():
        figure = make_figure(504, 300)
        axes = figure.add_axes((0.09, 0.12, 0.89, 0.8))
        axes.plot(1e3 * experts[0], experts[1], "o", color=GREY, markersize=3, label="one expert")
        for colour, (method, (cost, accuracy)) in zip(COLOURS, curves.items(), strict=False):
            x, y = nondecreasing_hull(cost, accuracy)
            # What is a straight line between two corners is bent where costs are logarithms.
            line: NDArray[np.float64] = np.geomspace(float(x[0]), float(x[-1]), 400)
            axes.plot(1e3 * line, np.interp(line, x, y), color=colour, label=method)
            axes.plot(1e3 * cost, accuracy, ".", color=colour, markersize=5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel("USD per 1,000 queries")
        axes.set_ylabel("accuracy")
        axes.set_title(title)
        axes.grid()
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=144)
