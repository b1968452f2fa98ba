"""The order, colour and marker of each method: the same in every chart of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eval.replay.ladder import LADDER

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by colour-blind readers too; without the palette's yellow, which is faint on white.

Source: Okabe and Ito, Color universal design, 2008.
"""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""As many as are prime to the colours, so that 42 methods look different."""
DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
GREY = "#8A8A8A"
PEEKING = frozenset({"category-hindsight", "oracle"})
"""They choose by the scores that they are judged on: bounds, not competitors."""

_REFERENCE_MARKERS = dict(zip(LADDER, ("x", "s", "D", "d", "*"), strict=True))
_BELOW_METHODS = [name for name in LADDER if name not in PEEKING]
_N_BELOW = len(_BELOW_METHODS)
Dash = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    dash: Dash


def is_reference(method: str) -> bool:
    """Whether a method is a rung of the ladder, which others are compared with."""
    return method in LADDER or method.startswith("fixed[")


def ladder_place(method: str) -> int:
    """The place on the ladder; methods that are no rungs share one, above what needs no router."""
    if method in _BELOW_METHODS:
        return _BELOW_METHODS.index(method)
    if method in PEEKING:
        return _N_BELOW + 2 + list(LADDER).index(method)
    return _N_BELOW if method.startswith("fixed[") else _N_BELOW + 1


def make_looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method; references are grey."""
    looks: dict[str, Look] = {}
    others = 0
    for method in dict.fromkeys(methods):
        if is_reference(method):
            looks[method] = Look(GREY, _REFERENCE_MARKERS.get(method, "h"), ":")
        else:
            looks[method] = Look(
                COLOURS[others % len(COLOURS)],
                MARKERS[others % len(MARKERS)],
                DASHES[others % len(DASHES)],
            )
            others += 1
    return looks
