"""Small tables of outcomes, and what judges them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from composer.outcomes import (
    NOT_EXTRACTED,
    NOT_RECORDED,
    Answers,
    OutcomeTable,
    RecordedExpert,
    RecordedQuery,
    save_table,
)
from composer.types import Evidence, Query, Scores
from eval.replay.methods import Method, make_method
from eval.replay.routed import Composition, judge
from routers.encoder import HashingEncoder

if TYPE_CHECKING:
    from composer.protocols import RouterNeed
    from composer.types import Annotation, Float32Array

MakeTable = Callable[..., OutcomeTable]
Methods = Callable[..., list[Method]]

NAMES = ("ann", "bea", "cy", "dee", "eli")
ENCODER = HashingEncoder(32)
CODES = {"?": NOT_RECORDED, "-": NOT_EXTRACTED, "A": 0, "B": 1, "C": 2}


class SpyRouter:
    """Predicts what it is told to, and keeps what it was given."""

    name = "spy"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(self, *quality: float) -> None:
        self.quality = quality
        self.settings: dict[str, Any] = {}
        self.fitted: list[tuple[str, ...]] = []
        self.asked: list[Query] = []

    def fit(self, table: OutcomeTable) -> Self:
        self.fitted.append(tuple(query.id for query in table.queries))
        self.experts = table.names
        return self

    def annotate(self, query: Query) -> None: ...

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        self.asked += queries
        row: Float32Array = np.array(self.quality, np.float32)
        return Scores(self.experts, np.tile(row, (len(queries), 1)), lambda q, e: Evidence("spied"))

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def method(self, **options: Any) -> Method:
        """Itself as a method named `spy`."""
        return Method("spy", partial(judge, Composition("spy", self.fit, **options)))


@pytest.fixture
def spy() -> SpyRouter:
    """Predicts most of the second of two experts."""
    return SpyRouter(0.25, 0.75)


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    """A table from a line a query: its split, its category and each expert's score.

    A split that ends in ! is flagged, a category - is none, a score or a cost ? is unknown, an
    answer ? is not recorded and - not extracted. The ids are q0, q1, ..., unless given; the texts
    say which query they are.
    """

    def make(
        *lines: str,
        ids: Sequence[str] = (),
        names: Sequence[str] = NAMES,
        cost: Sequence[str] = (),
        answers: Sequence[str] = (),
        texts: Sequence[Sequence[str | None]] = (),
    ) -> OutcomeTable:
        fields = [line.split() for line in lines]
        ids = ids or [f"q{row}" for row in range(len(lines))]
        m = len(fields[0]) - 2
        queries = tuple(
            RecordedQuery(
                query_id,
                f"The prompt of {query_id}",
                split.rstrip("!"),
                None if category == "-" else category,
                flags=frozenset({"in_train"} if split.endswith("!") else ()),
            )
            for query_id, (split, category, *_) in zip(ids, fields, strict=True)
        )
        codes = [[CODES[each] for each in line.split()] for line in answers]
        return OutcomeTable(
            "made",
            queries,
            tuple(RecordedExpert(name) for name in names[:m]),
            _cells([cells for _, _, *cells in fields]),
            cost_usd=_cells([line.split() for line in cost]) if cost else None,
            answers=Answers(("A", "B", "C"), np.array(codes, np.int32)) if codes else None,
            texts=np.array(texts, np.object_) if texts else None,
        )

    return make


def _cells(rows: Sequence[Sequence[str]]) -> Float32Array:
    return np.array([[np.nan if c == "?" else float(c) for c in row] for row in rows], np.float32)


@pytest.fixture(scope="session")
def methods() -> Methods:
    """Methods by their names; those that embed do so without a model."""

    def make(*names: str) -> list[Method]:
        return [make_method(name, ENCODER) for name in names]

    return make


@pytest.fixture(scope="session")
def graded(make_table: MakeTable) -> OutcomeTable:
    """Three experts on 40 questions of two subjects, in which each has its own strength."""
    rng = np.random.default_rng(5)
    lines: list[str] = []
    for row in range(40):
        subject = ("law", "maths")[row % 2]
        strength = (0.8, 0.3, 0.6) if subject == "law" else (0.2, 0.7, 0.6)
        right = (rng.random(3) < strength).astype(int)
        lines.append(f"{'test' if row % 4 > 1 else 'train'} {subject} {' '.join(map(str, right))}")
    letters = [" ".join(rng.choice(["A", "B", "C"], 3)) for _ in lines]
    return make_table(*lines, cost=["0.001 0.002 0.004"] * len(lines), answers=letters)


@pytest.fixture
def saved(tmp_path: Path, graded: OutcomeTable) -> Path:
    """The folder of the graded table."""
    save_table(graded, tmp_path / "graded")
    return tmp_path / "graded"
