"""What a report holds, whatever it is written as: sections of text, charts and tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    is_best: bool = False
    """Of what it is compared with; drawn in bold."""


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in columns; none of it is markup."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_words: int = 1
    """Columns of words, which come first; the others are numbers."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, what it shows in words, and the numbers behind it."""

    caption: str
    svg: str
    """Markup of our own making; names in it are drawn as outlines or escaped."""
    numbers: Table | None = None
    """What is behind it; None: a table of its section holds that."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    title: str
    paragraphs: tuple[str, ...] = ()
    charts: tuple[tuple[Chart, ...], ...] = ()
    """Groups: those of a group stand beside one another where there is room."""
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    sections: tuple[Section, ...]


def make_table(
    caption: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], *, n_words: int = 1
) -> Table:
    """A table of plain texts."""
    return Table(caption, columns, tuple(tuple(map(Cell, row)) for row in rows), n_words)
