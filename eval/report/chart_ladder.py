"""The ladder as bars: what each method gets between a random expert and the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from eval.replay.output import number, with_interval
from eval.replay.rows import Row
from eval.report.drawing import (
    INK,
    LINE_PT,
    WIDTH_PT,
    Drawing,
    make_figure,
    text_width,
    to_svg,
    wrap,
)
from eval.report.load import JudgedPart
from eval.report.looks import PEEKING, Look, is_reference
from eval.report.page import Chart

LABEL_CHARACTERS = 26
GAP_PT = 8.0
ABOVE_PT, BELOW_PT = 16.0, 30.0


def ladder_chart(part: JudgedPart, looks: Mapping[str, Look], *, name: str, title: str) -> Chart:
    """Bars of accuracy with their intervals, and the macro accuracy beside them.

    Args:
        part: Whose rows.
        looks: Of every method.
        name: Begins the drawing's ids.
        title: What the chart is of.
    """
    labels = [wrap(row.method, LABEL_CHARACTERS) for row in part.rows]
    figures = [with_interval(row.accuracy, row.ci95) for row in part.rows]
    row_pt = LINE_PT * max(label.count("\n") + 1 for label in labels) + 7
    height = ABOVE_PT + row_pt * len(labels) + BELOW_PT
    figure = make_figure(WIDTH_PT, height)
    left = max(text_width(label, bold=True) for label in labels) + 2 * GAP_PT
    right = WIDTH_PT - max(map(text_width, figures)) - GAP_PT
    middle = left + 0.64 * (right - left)
    bars = _axes(figure, left, middle - GAP_PT, row_pt * len(labels))
    macro = _axes(figure, middle + GAP_PT, right - GAP_PT, row_pt * len(labels))
    _draw_bars(bars, part.rows, looks)
    _draw_points(macro, part.rows, looks)
    best = part.row_of["best-single"]
    for axes, at in ((bars, best.accuracy), (macro, best.macro_accuracy)):
        axes.axvline(at, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks([])
        axes.grid(axis="x")
    bars.set_yticks(range(len(labels)), labels)
    bars.tick_params(axis="y", length=0)
    for label, row in zip(bars.get_yticklabels(), part.rows, strict=True):
        label.set_fontweight("normal" if is_reference(row.method) else "bold")
    above = {"ha": "center", "va": "bottom", "xycoords": ("data", "axes fraction")}
    bars.annotate("best-single", (best.accuracy, 1.01), **above)
    figure.text(right, height - ABOVE_PT + 2, "accuracy [95 %]", va="bottom", transform=None)
    for place, text in enumerate(figures):
        y = BELOW_PT + row_pt * (len(labels) - place - 0.5)
        figure.text(right, y, text, va="center_baseline", transform=None)
    caption = f"{title}: accuracy and macro accuracy, n = {part.n}, with 95 % intervals"
    return Chart(caption, to_svg(figure, name, f"{caption}. {_in_words(part)}"))


def _axes(figure: Drawing, left: float, right: float, height: float) -> Drawing:
    """Axes that stand on the bottom margin, given in points."""
    width_pt, height_pt = (72 * side for side in figure.get_size_inches())
    return figure.add_axes(
        (left / width_pt, BELOW_PT / height_pt, (right - left) / width_pt, height / height_pt)
    )


def _draw_bars(axes: Drawing, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    for place, row in enumerate(rows):
        hatch = "////" if row.method in PEEKING else None
        axes.barh(
            place,
            row.accuracy,
            0.66,
            color=looks[row.method].colour,
            hatch=hatch,
            edgecolor="white",
        )
        axes.plot(row.ci95, (place, place), color="white", linewidth=4)
        axes.plot(row.ci95, (place, place), "|-", color="black", linewidth=1.2, markersize=5)
    ends = [row.ci95[1] for row in rows if not np.isnan(row.ci95[1])]
    axes.set_xlim(0, min(1.0, max(ends, default=1.0) + 0.05))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy")


def _draw_points(axes: Drawing, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    for place, row in enumerate(rows):
        colour = looks[row.method].colour
        axes.plot(row.macro_ci95, (place, place), color=colour, linewidth=1.6)
        axes.plot(row.macro_accuracy, place, "D", color=colour, markersize=4.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("macro accuracy")


def _in_words(part: JudgedPart) -> str:
    known = [row for row in part.rows if not np.isnan(row.accuracy)]
    return "; ".join(f"{row.method} {number(row.accuracy, '.4f')}" for row in known)
