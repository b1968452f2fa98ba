"""Engines' turns as bars over time, their loads in another colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.errors import ConfigError

KINDS = (".png", ".svg")
LOAD, WORK = "#E69F00", "#56B4E9"
"""Colours that stay apart for all kinds of colour vision (Okabe and Ito)."""
WIDTH_IN, LANE_IN, REST_IN = 10.0, 0.34, 1.1
FONT_PT, LETTER_PT = 7.0, 4.3
"""Of labels; a letter's width on average."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine's turn."""

    lane: int
    """From the top."""
    label: str
    start_s: float
    ready_s: float
    """Until then it is loaded; as `start_s` if it is not."""
    end_s: float


def draw_bars(path: Path, bars: Sequence[Bar], title: str, lanes: Sequence[str]) -> None:
    """Draw bars, a lane under the other, with loads in another colour.

    A bar that is too narrow for its label has none.

    Args:
        path: Where; its suffix, of `KINDS`, says in which format.
        bars: One at least.
        title: Of the picture.
        lanes: Their names, from the top; "": it has none.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib import style

    with style.context(["default", {"svg.hashsalt": "stages"}]):
        figure = _figure(bars, title, lanes)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        try:
            figure.savefig(path, dpi=144, metadata=metadata)
        except OSError as exc:
            raise ConfigError(
                f"{path}: cannot be written ({exc.strerror}); name another file"
            ) from exc


def _figure(bars: Sequence[Bar], title: str, lanes: Sequence[str]) -> Any:
    """A matplotlib figure: strict checking cannot see through its keyword arguments."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    end_s = max(bar.end_s for bar in bars) or 1.0
    figure: Any = Figure(figsize=(WIDTH_IN, REST_IN + LANE_IN * len(lanes)), layout="constrained")
    axes: Any = figure.add_subplot()
    for kind, colour in (("load", LOAD), ("answers", WORK)):
        begins = [bar.start_s if kind == "load" else bar.ready_s for bar in bars]
        ends = [bar.ready_s if kind == "load" else bar.end_s for bar in bars]
        widths = [end - begin for begin, end in zip(begins, ends, strict=True)]
        axes.barh([bar.lane for bar in bars], widths, left=begins, height=0.8, color=colour)
    for bar in bars:
        room_pt = (bar.end_s - bar.start_s) / end_s * WIDTH_IN * 72 * 0.9
        if len(bar.label) * LETTER_PT < room_pt:
            middle_s = (bar.start_s + bar.end_s) / 2
            axes.text(
                middle_s, bar.lane, bar.label, size=FONT_PT, ha="center", va="center", clip_on=True
            )
    named = [lane for lane, name in enumerate(lanes) if name]
    axes.set_yticks(named, [lanes[lane] for lane in named])
    axes.set_xlim(0.0, end_s)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlabel("seconds")
    axes.set_title(title, loc="left", size=10, parse_math=False)
    patches = [Patch(color=LOAD, label="load"), Patch(color=WORK, label="answers")]
    axes.legend(handles=patches, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return figure
