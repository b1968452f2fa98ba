"""matplotlib figures without global state -> SVG that stands inside a page and needs no font."""

from __future__ import annotations

import io
import re
from collections.abc import Generator
from contextlib import contextmanager
from html import escape
from typing import Any

from matplotlib import font_manager, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

WIDTH_PT = 504.0
"""Of a whole chart."""
FONT_PT = 8.0
SMALLEST, LARGEST = 1.125, 1.4
"""Pixels that a page may show a point as; at the smallest, letters of 8 pt are of 9 px."""
LINE_PT = 10.5
"""From one line of text to the next."""
INK = "#222222"
FONT = "DejaVu Sans"
"""It comes with matplotlib, so that a chart is the same everywhere."""
STYLE = {
    "font.family": FONT,
    "font.size": FONT_PT,
    "axes.labelsize": FONT_PT,
    "axes.titlesize": FONT_PT,
    "xtick.labelsize": FONT_PT,
    "ytick.labelsize": FONT_PT,
    "legend.fontsize": FONT_PT,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
}
Drawing = Any
"""A matplotlib figure or its axes: strict checking cannot see through their keyword arguments."""

_ID = re.compile(r'(?<=\bid=")[^"]+|(?<=href="#)[^"]+|(?<=url\(#)[^)]+')


@contextmanager
def drawing_style() -> Generator[None]:
    """Within it figures look alike, whatever a user's matplotlibrc says."""
    with style.context(["default", STYLE]):
        yield


def make_figure(width_pt: float, height_pt: float) -> Drawing:
    """An empty figure of 72 dots an inch, so that its pixels are points."""
    figure = Figure(figsize=(width_pt / 72, height_pt / 72), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Drawing, name: str, alt: str) -> str:
    """The figure as an element of an HTML page.

    Args:
        figure: Of `make_figure`.
        name: Begins every id, so that charts of one page do not share any.
        alt: What it shows, for who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    # The first definitions are a style sheet, which would be the whole page's.
    body = re.sub(r"<!--.*?-->", "", svg.partition("</defs>")[2], flags=re.DOTALL)
    body = _ID.sub(lambda found: f"{name}-{found[0]}", body)
    body = re.sub(r"\s*\n\s*", "\n", body.replace("xlink:href", "href"))
    width, height = (72 * side for side in figure.get_size_inches())
    return (
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="min-width:{SMALLEST * width:g}px;max-width:{LARGEST * width:g}px">{body}'
    )


def text_width(text: str, *, bold: bool = False) -> float:
    """The width in points of the longest line of a text."""
    font = _font("bold" if bold else "normal")
    # Measured large, where hinting does not matter, in the font's 64ths.
    font.set_size(FONT_PT * 10, 72)
    widths: list[float] = []
    for line in text.split("\n"):
        font.set_text(line)
        widths.append(font.get_width_height()[0] / 64 / 10)
    return max(widths)


def printable(text: str) -> str:
    """The text with a stand-in for each character that the font lacks."""
    font = _font("normal")
    return "".join(c if font.get_char_index(ord(c)) else "\N{REPLACEMENT CHARACTER}" for c in text)


def wrap(name: str, n_characters: int, n_lines: int = 3) -> str:
    """A name on a few short lines, broken after its punctuation if possible; the rest is cut."""
    pieces = re.findall(r".+?(?:[-+,/_\[\s]|$)", printable(name))
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > n_characters:
            lines.append("")
        lines[-1] += piece
    if len(lines) > n_lines:
        lines = [*lines[: n_lines - 1], "".join(lines[n_lines - 1 :])]
    return "\n".join(
        line if len(line) <= n_characters else f"{line[: n_characters - 1]}…" for line in lines
    )


def _font(weight: str) -> FT2Font:
    face = font_manager.FontProperties(family=FONT, weight=weight)
    return font_manager.get_font(font_manager.findfont(face))  # pyright: ignore[reportUnknownMemberType]
