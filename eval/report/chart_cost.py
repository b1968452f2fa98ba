"""What accuracy costs: single experts, methods, and the Pareto front of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from eval.metrics import pareto_front
from eval.replay.output import with_interval
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
from eval.report.labels import Box, place_labels
from eval.report.load import JudgedPart
from eval.report.looks import GREY, PEEKING, Look, is_reference
from eval.report.means import PartMeans
from eval.report.page import Chart, Table, make_table

HEIGHT_PT = 300.0
ROOM = Box(44.0, 34.0, WIDTH_PT - 4.0, HEIGHT_PT - 4.0)
"""Where points and names are, in points from the lower left corner."""
LABEL_CHARACTERS = 24
WIDE = 10.0
"""Costs whose largest is so many times the smallest are drawn by their logarithms."""
WIDEST = 1e4
"""From here on only powers of ten have room on the axis."""
LEADER_PT = 8.0
"""Names farther away than this are tied to their points."""


@dataclass(frozen=True, slots=True)
class Point:
    """A method or a single expert whose cost is known."""

    name: str
    n: int
    cost: float
    accuracy: float
    interval: tuple[float, float]
    is_expert: bool = False

    @property
    def competes(self) -> bool:
        """Whether it can be on the front."""
        return self.is_expert or self.name not in PEEKING

    @property
    def is_bold(self) -> bool:
        """Whether its name is that of a method on trial."""
        return not self.is_expert and not is_reference(self.name)


def has_costs(part: JudgedPart) -> bool:
    """Whether it is known what any method costs."""
    return any(not np.isnan(row.cost_usd_per_1k) for row in part.rows)


def cost_chart(
    part: JudgedPart, means: PartMeans, looks: Mapping[str, Look], *, name: str, title: str
) -> Chart:
    """Accuracy against USD per 1,000 queries.

    Args:
        part: Whose rows.
        means: Of the same part.
        looks: Of every method.
        name: Begins the drawing's ids.
        title: What the chart is of.
    """
    points = _points(part, means)
    front = _front(points)
    # Names are placed in this order, so those that matter most have the best places.
    points.sort(key=lambda point: (point.is_expert, point not in front))
    figure = make_figure(WIDTH_PT, HEIGHT_PT)
    axes = figure.add_axes(ROOM.within(WIDTH_PT, HEIGHT_PT))
    _set_axes(axes, [point.cost for point in points])
    steps = ([point.cost for point in front], [point.accuracy for point in front])
    axes.plot(*steps, drawstyle="steps-post", color=INK, linewidth=0.9, zorder=1)
    for point in points:
        _draw_point(axes, point, looks)
    n_unnamed = _draw_names(axes, points, front)
    caption = f"{title}: accuracy against cost, n = {part.n}"
    if n_unnamed:
        caption += f" ({n_unnamed} dots have no room for a name)"
    alt = f"{caption}. On the Pareto front: " + ", ".join(
        f"{point.name} ({point.cost:.3g} USD, {point.accuracy:.4f})" for point in front
    )
    return Chart(caption, to_svg(figure, name, alt), _numbers(caption, points, front))


def _points(part: JudgedPart, means: PartMeans) -> list[Point]:
    """The methods and the single experts whose cost is known."""
    points = [Point(r.method, r.n, r.cost_usd_per_1k, r.accuracy, r.ci95) for r in part.rows]
    for expert in means.experts:
        score, cost = expert.score, expert.cost_usd_per_1k
        points.append(
            Point(expert.name, score.n, cost, score.value, (score.low, score.high), is_expert=True)
        )
    return [point for point in points if not np.isnan(point.cost + point.accuracy)]


def _front(points: Sequence[Point]) -> list[Point]:
    competing = [point for point in points if point.competes]
    cost = np.array([point.cost for point in competing])
    accuracy = np.array([point.accuracy for point in competing])
    return [competing[i] for i in pareto_front(cost, accuracy)]


def _set_axes(axes: Drawing, costs: Sequence[float]) -> None:
    axes.set_xlabel("USD per 1,000 queries")
    axes.set_ylabel("accuracy")
    axes.grid()
    axes.margins(0.08)
    if min(costs) > 0 and max(costs) > WIDE * min(costs):
        axes.set_xscale("log")
        subs = (1.0, 2.0, 5.0) if max(costs) < WIDEST * min(costs) else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _draw_point(axes: Drawing, point: Point, looks: Mapping[str, Look]) -> None:
    if point.is_expert:
        axes.plot(point.cost, point.accuracy, "o", color=GREY, markersize=3.5, zorder=2)
        return
    look = looks[point.name]
    is_hollow = not point.competes
    axes.plot((point.cost, point.cost), point.interval, color=look.colour, linewidth=1.2, zorder=3)
    axes.plot(
        point.cost,
        point.accuracy,
        look.marker,
        color=look.colour,
        markersize=9,
        markerfacecolor="white" if is_hollow else look.colour,
        markeredgecolor=look.colour if is_hollow or look.marker == "x" else "white",
        zorder=4,
    )


def _places(axes: Drawing, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Where points are drawn, in points from the lower left corner."""
    drawn = axes.transData.transform([(point.cost, point.accuracy) for point in points])
    return [(float(x), float(y)) for x, y in drawn]


def _steps(places: Sequence[tuple[float, float]]) -> list[Box]:
    """What the line covers that goes right and then up from each place to the next."""
    boxes: list[Box] = []
    for (x, y), (next_x, next_y) in pairwise(places):
        boxes += [Box(x, y - 1, next_x, y + 1), Box(next_x - 1, y, next_x + 1, next_y)]
    return boxes


def _draw_names(axes: Drawing, points: Sequence[Point], front: Sequence[Point]) -> int:
    """Write the names that fit; the number of those that do not."""
    axes.autoscale_view()
    axes.autoscale(enable=False)
    places = _places(axes, points)
    names = [
        wrap(p.name.rpartition("/")[2] if p.is_expert else p.name, LABEL_CHARACTERS, 2)
        for p in points
    ]
    sizes = [
        (text_width(name, bold=point.is_bold) + 2, LINE_PT * (name.count("\n") + 1))
        for name, point in zip(names, points, strict=True)
    ]
    boxes = place_labels(places, sizes, ROOM, obstacles=_steps(_places(axes, front)))
    for name, point, (x, y), box in zip(names, points, places, boxes, strict=True):
        if box is None:
            continue
        near = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
        if np.hypot(near[0] - x, near[1] - y) > LEADER_PT:
            axes.plot((x, near[0]), (y, near[1]), color=GREY, linewidth=0.5, transform=None)
        axes.text(
            (box.left + box.right) / 2,
            (box.bottom + box.top) / 2,
            name,
            ha="center",
            va="center",
            weight="bold" if point.is_bold else "normal",
            transform=None,
            zorder=3.5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0},
        )
    return boxes.count(None)


def _numbers(caption: str, points: Sequence[Point], front: Sequence[Point]) -> Table:
    rows = [
        (
            point.name,
            "expert" if point.is_expert else "method",
            "yes" if point in front else "",
            f"{point.n:,}",
            f"{point.cost:.3f}",
            with_interval(point.accuracy, point.interval),
        )
        for point in sorted(points, key=lambda point: point.cost)
    ]
    columns = ("name", "is a", "on the front", "n", "USD / 1k", "accuracy [95 %]")
    return make_table(caption, columns, rows, n_words=3)
