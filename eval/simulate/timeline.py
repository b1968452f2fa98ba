"""Slots over time, as one picture: what is spent on loads, and what on answers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from composer.errors import ConfigError
from eval.report.drawing import (
    WIDTH_PT,
    Drawing,
    drawing_style,
    make_figure,
    text_width,
    to_svg,
)
from eval.report.looks import COLOURS
from eval.simulate.simulator import Outcome

if TYPE_CHECKING:
    from eval.simulate.trace import Float64Array

KINDS = (".html", ".png")
LOAD, WORK = COLOURS[1], COLOURS[0]
N_MOMENTS = 600
"""Of the picture, however many runs there are."""
LANE_PT, GAP_PT, LEGEND_PT, AXIS_PT = 14.0, 6.0, 20.0, 34.0


def draw_timeline(path: Path, outcomes: Sequence[Outcome], title: str) -> None:
    """Draw each outcome's slots, all on one axis of seconds.

    A lane is a slot. Of each moment it shows the share spent on answers, and on top of that the
    share spent on loads, so that even a million runs are one picture.

    Args:
        path: Where; its suffix says in which format.
        outcomes: Top to bottom.
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
        figure = _draw(outcomes, title)
        if path.suffix == ".png":
            figure.savefig(path, dpi=144)
            return
        svg = to_svg(figure, "timeline", f"{title}: slots over time, loads and answers")
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"{svg}</html>\n",
        encoding="utf-8",
    )


def spent(outcome: Outcome, slot: int, edges: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The shares of each moment that a slot spends on loads and switches, and on answers.

    Args:
        outcome: Of one order.
        slot: From 0.
        edges: Where moments begin and end, [n + 1] seconds, ascending.

    Returns:
        Both [n], in [0, 1].
    """
    schedule = outcome.schedule
    is_here = schedule.slot == slot
    start_s, ready_s, end_s = (
        column[is_here] for column in (schedule.start_s, schedule.ready_s, schedule.end_s)
    )
    moments = np.diff(edges)
    waiting, working = (
        np.diff(_covered(a, b, edges)) / moments for a, b in ((start_s, ready_s), (ready_s, end_s))
    )
    return waiting, working


def _covered(start_s: Float64Array, end_s: Float64Array, until_s: Float64Array) -> Float64Array:
    """How much of intervals, ascending and apart, lies before each moment."""
    number = np.searchsorted(start_s, until_s, side="right")
    sums = np.append(0.0, np.cumsum(end_s - start_s))
    before = np.maximum(number - 1, 0)
    if not len(start_s):
        return np.zeros(len(until_s))
    current = np.clip(until_s - start_s[before], 0.0, (end_s - start_s)[before])
    return sums[before] + current


def _draw(outcomes: Sequence[Outcome], title: str) -> Drawing:
    slots = [int(outcome.schedule.slot.max()) + 1 for outcome in outcomes]
    labels = [f"{outcome.order}, {outcome.policy}" for outcome in outcomes]
    height = LANE_PT * sum(slots) + GAP_PT * len(outcomes) + LEGEND_PT + AXIS_PT
    left = (max(map(text_width, labels)) + 2 * GAP_PT) / WIDTH_PT
    figure = make_figure(WIDTH_PT, height)
    longest_s = max(outcome.seconds for outcome in outcomes) or 1.0
    edges = np.linspace(0.0, longest_s, N_MOMENTS + 1)
    top = height - LEGEND_PT
    axes: Drawing = None
    for outcome, label, n_slots in zip(outcomes, labels, slots, strict=True):
        top -= LANE_PT * n_slots + GAP_PT
        axes = figure.add_axes((left, top / height, 0.97 - left, LANE_PT * n_slots / height))
        for slot in range(n_slots):
            waiting, working = spent(outcome, slot, edges)
            floor = n_slots - 1 - slot
            busy = floor + working + waiting
            axes.stairs(floor + working, edges, baseline=floor, fill=True, color=WORK)
            axes.stairs(busy, edges, baseline=floor + working, fill=True, color=LOAD)
        axes.set_xlim(0.0, longest_s)
        axes.set_ylim(0.0, n_slots)
        axes.set_yticks([n_slots / 2], [label])
        axes.tick_params(axis="y", length=0)
        is_last = outcome is outcomes[-1]
        axes.tick_params(axis="x", bottom=is_last, labelbottom=is_last)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.set_xlabel("seconds")
    handles = [Patch(color=LOAD, label="loads and switches"), Patch(color=WORK, label="answers")]
    figure.legend(handles=handles, loc="upper right", ncols=2)
    figure.text(GAP_PT / WIDTH_PT, 1 - 0.7 * LEGEND_PT / height, title)
    return figure
