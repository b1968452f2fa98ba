"""Where names stand beside their points, so that they hide neither points nor one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DISTANCES_PT = (5.0, 9.0, 15.0, 22.0, 30.0, 40.0)
DIRECTIONS = (
    *((1.0, 0.0), (-1.0, 0.0)),
    *((across, up) for across in (0.0, 1.0, -1.0, 0.5, -0.5, 0.75, -0.75) for up in (1.0, -1.0)),
)
"""Across and up: 1 is just past the point on that side, 0 is centred on it."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in points."""

    left: float
    bottom: float
    right: float
    top: float

    def within(self, width: float, height: float) -> tuple[float, float, float, float]:
        """As matplotlib has it: left, bottom, width and height in shares of a figure's size."""
        return (
            self.left / width,
            self.bottom / height,
            (self.right - self.left) / width,
            (self.top - self.bottom) / height,
        )

    def overlaps(self, other: Box) -> bool:
        """Whether the two share an area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def is_inside(self, other: Box) -> bool:
        """Whether no part of it is outside the other one."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    room: Box,
    *,
    obstacles: Sequence[Box] = (),
    radius: float = 4.0,
) -> list[Box | None]:
    """Places for the labels of points, taken in their order: the nearest that is free.

    Args:
        points: Their centres, in points.
        sizes: Width and height of their labels.
        room: What no label leaves.
        obstacles: What else no label hides.
        radius: Of the points.

    Returns:
        A place for each label; None where none is free.
    """
    taken = [*obstacles, *(Box(x - radius, y - radius, x + radius, y + radius) for x, y in points)]
    places: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        free = (
            box
            for box in _candidates(point, size)
            if box.is_inside(room) and not any(box.overlaps(other) for other in taken)
        )
        place = next(free, None)
        places.append(place)
        if place is not None:
            taken.append(place)
    return places


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    """Boxes around a point, the nearest ones first."""
    (x, y), (width, height) = point, size
    for distance in DISTANCES_PT:
        for across, up in DIRECTIONS:
            middle_x = x + across * (distance + width / 2)
            middle_y = y + up * (distance + height / 2)
            yield Box(
                middle_x - width / 2,
                middle_y - height / 2,
                middle_x + width / 2,
                middle_y + height / 2,
            )
