"""The strong expert called more and more often: what each router makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.replay.output import number, with_interval
from eval.report.drawing import INK, LINE_PT, WIDTH_PT, make_figure, to_svg, wrap
from eval.report.labels import Box
from eval.report.load import PairLine
from eval.report.looks import Look
from eval.report.page import Chart, Table, make_table

PLOT_PT = 230.0
BELOW_PT = 34.0


def curves_chart(
    lines: Sequence[PairLine], looks: Mapping[str, Look], *, name: str, title: str
) -> Chart:
    """Accuracy by the share of strong calls, a line a method.

    Args:
        lines: Judged on the same questions; at least one.
        looks: Of every method.
        name: Begins the drawing's ids.
        title: What the chart is of.
    """
    height = PLOT_PT + LINE_PT * 1.2 * (len(lines) + 1) + BELOW_PT
    figure = make_figure(WIDTH_PT, height)
    bottom = height - PLOT_PT
    axes = figure.add_axes(Box(44, bottom, WIDTH_PT - 10, height - 6).within(WIDTH_PT, height))
    ends = lines[0].curve
    axes.plot(
        [100 * share for share in (ends.strong_share[0], ends.strong_share[-1])],
        [ends.accuracy[0], ends.accuracy[-1]],
        color=INK,
        linewidth=0.8,
        linestyle=(0, (4, 2)),
        label="at random",
    )
    for line in lines:
        if line.method == "random":
            continue
        look = looks[line.method]
        axes.plot(
            [100 * share for share in line.curve.strong_share],
            line.curve.accuracy,
            color=look.colour,
            linestyle=look.dash,
            linewidth=1.4,
            marker=look.marker,
            markersize=7 if look.marker == "*" else 5,
            label=f"{wrap(line.method, 50, 1)}: APGR {with_interval(line.apgr, line.apgr_ci95)}",
        )
    axes.set_xlabel("strong calls, %")
    axes.set_ylabel("accuracy")
    axes.grid()
    figure.legend(loc="lower left", bbox_to_anchor=(34 / WIDTH_PT, 0), handlelength=4)
    caption = (
        f"{title}: accuracy by the share of strong calls, n = {lines[0].n:,} in each of "
        f"{lines[0].n_seeds} draws of {lines[0].labels:,} labels"
    )
    in_words = "; ".join(f"{line.method} APGR {number(line.apgr, '.4f')}" for line in lines)
    svg = to_svg(figure, name, f"{caption}. {in_words}")
    return Chart(caption, svg, _numbers(caption, lines))


def _numbers(caption: str, lines: Sequence[PairLine]) -> Table:
    rows = [
        (f"{share:.0%}", *(number(line.curve.accuracy[cut], ".4f") for line in lines))
        for cut, share in enumerate(lines[0].curve.strong_share)
    ]
    return make_table(caption, ("strong calls", *(line.method for line in lines)), rows)
