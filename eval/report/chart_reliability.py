"""Whether a router's predicted qualities can be believed: predicted against observed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics import ReliabilityBins, reliability_bins
from eval.replay.output import number, with_interval
from eval.replay.rows import Row
from eval.report.drawing import INK, LINE_PT, WIDTH_PT, Drawing, make_figure, to_svg, wrap
from eval.report.labels import Box
from eval.report.load import JudgedPart
from eval.report.looks import Look
from eval.report.page import Chart, Table, make_table

N_ACROSS = 2
PANEL_PT = 250.0
PANEL_WIDTH_PT = WIDTH_PT / N_ACROSS
TITLE_PT = 2.4 * LINE_PT
COUNTS_PT = 40.0
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a router predicted of the experts that it chose, in bins."""

    row: Row
    n: int
    bins: ReliabilityBins


def predictions_of(part: JudgedPart) -> list[Predictions]:
    """The routers of a part that predict a quality."""
    found: list[Predictions] = []
    for row in part.rows:
        judged = part.judged[row.method]
        predicted = np.array([decision.predicted for decision in judged.decisions])
        if judged.quality is not None and not np.isnan(predicted).all():
            bins = reliability_bins(predicted, judged.score)
            found.append(Predictions(row, int(bins.count.sum()), bins))
    return found


def reliability_chart(
    found: Sequence[Predictions], looks: Mapping[str, Look], *, name: str, title: str
) -> Chart:
    """Observed quality by predicted quality, a panel a router, with the counts below.

    Args:
        found: At least one router's.
        looks: Of every method.
        name: Begins the drawing's ids.
        title: What the chart is of.
    """
    n_down = math.ceil(len(found) / N_ACROSS)
    figure = make_figure(WIDTH_PT if len(found) > 1 else PANEL_WIDTH_PT, PANEL_PT * n_down)
    for place, predictions in enumerate(found):
        down, across = divmod(place, N_ACROSS)
        left, bottom = across * PANEL_WIDTH_PT, (n_down - 1 - down) * PANEL_PT
        _draw_panel(figure, predictions, looks[predictions.row.method], left, bottom)
    caption = f"{title}: predicted quality of the chosen expert against its observed score"
    eces = "; ".join(f"{each.row.method} ECE {_ece(each)}, n = {each.n:,}" for each in found)
    return Chart(caption, to_svg(figure, name, f"{caption}. {eces}"), _numbers(caption, found))


def wilson_interval(mean: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a mean of n scores in [0, 1].

    Source: Wilson, Probable inference, 1927, for shares; wider than needed for graded scores.
    """
    spread = Z95**2 / n
    middle = (mean + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(mean * (1 - mean) / n + spread / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _draw_panel(
    figure: Drawing, predictions: Predictions, look: Look, left: float, bottom: float
) -> None:
    width, height = (72 * side for side in figure.get_size_inches())
    right, top = left + PANEL_WIDTH_PT - 12, bottom + PANEL_PT - TITLE_PT
    split = bottom + 32 + COUNTS_PT
    upper = figure.add_axes(Box(left + 42, split + 8, right, top).within(width, height))
    lower = figure.add_axes(Box(left + 42, bottom + 32, right, split).within(width, height))
    bins = predictions.bins
    upper.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    for x, y, n in _filled(bins):
        upper.plot((x, x), wilson_interval(y, n), color=look.colour, linewidth=1.2)
        upper.plot(x, y, look.marker, color=look.colour, markersize=5.5, clip_on=False)
    edges = np.linspace(0, 1, len(bins.count) + 1)
    lower.bar(
        edges[:-1], bins.count, np.diff(edges), align="edge", color=look.colour, edgecolor="white"
    )
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
        axes.grid()
    upper.set_ylim(0, 1)
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("observed score")
    lower.set_ylabel("queries")
    lower.locator_params(axis="y", nbins=2)
    lower.set_xlabel("predicted quality")
    ece = _ece(predictions)
    method = wrap(predictions.row.method, 36, 1)
    upper.set_title(f"{method}\nECE {ece}, n = {predictions.n:,}", loc="left", pad=4)


def _ece(predictions: Predictions) -> str:
    return number(predictions.row.figures.get("ece", math.nan), ".4f")


def _filled(bins: ReliabilityBins) -> list[tuple[float, float, float]]:
    """Predicted, observed and count of the bins that hold something."""
    rows = zip(bins.mean_predicted, bins.mean_score, bins.count, strict=True)
    return [(float(x), float(y), float(n)) for x, y, n in rows if n]


def _numbers(caption: str, found: Sequence[Predictions]) -> Table:
    rows = [
        (each.row.method, f"{n:.0f}", f"{x:.4f}", with_interval(y, wilson_interval(y, n)))
        for each in found
        for x, y, n in _filled(each.bins)
    ]
    return make_table(caption, ("method", "n", "predicted", "observed [95 %]"), rows)
