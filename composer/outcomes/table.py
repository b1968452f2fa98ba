"""OutcomeTable: how well each expert did on each query, with what is known beside the score."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.suggest import unknown_name
from composer.types import Annotation, AnswerType, Message, Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array

    Int32Array = NDArray[np.int32]
    Int64Array = NDArray[np.int64]
    Texts = NDArray[np.object_]

NOT_EXTRACTED = -1
"""An answer's code: the expert's text held no answer."""
NOT_RECORDED = -2
"""An answer's code: nobody wrote down what the expert answered."""


@dataclass(frozen=True, slots=True)
class RecordedQuery:
    """One question that experts were asked."""

    id: str
    prompt: str
    split: str
    """`train`, `test` or `ood`; any other name is a split of its own."""
    category: str | None = None
    reference: str | None = None
    flags: frozenset[str] = frozenset()
    """Why it is reported apart: `in_train`, `contaminated`; none: an ordinary row."""
    annotation: Annotation | None = None
    """What experts said of it for routers that asked; None: nobody was asked."""
    answer_type: AnswerType | None = None
    """How an answer is read; None: it is not said."""


@dataclass(frozen=True, slots=True)
class RecordedExpert:
    """One model whose outcomes were recorded."""

    name: str
    params_b: float | None = None
    """Billions of parameters."""
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    is_partial: bool = False
    """It was not asked everything."""
    description: str = ""
    """What it is good at, in words; "": not said."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers that were extracted from experts' texts."""

    values: tuple[str, ...]
    """The distinct answers, sorted."""
    codes: Int32Array
    """[n, m] int32: an index of `values`, `NOT_EXTRACTED` or `NOT_RECORDED`."""

    def value(self, row: int, column: int) -> str | None:
        """The answer of one cell; None: nothing was extracted, or recorded."""
        code = int(self.codes[row, column])
        return None if code < 0 else self.values[code]


@dataclass(frozen=True, eq=False)
class OutcomeTable:
    """Queries x experts: n rows, m columns. Frozen; selecting makes another table.

    Raises:
        ValueError: The parts do not have the same n and m.
    """

    name: str
    queries: tuple[RecordedQuery, ...]
    experts: tuple[RecordedExpert, ...]
    score: Float32Array
    """[n, m] in [0, 1]; NaN: unknown, which is not wrong."""
    cost_usd: Float32Array | None = None
    """[n, m]; NaN: unknown. None: unknown everywhere; so it is with the next three."""
    latency_s: Float32Array | None = None
    prompt_tokens: Float32Array | None = None
    completion_tokens: Float32Array | None = None
    answers: Answers | None = None
    texts: Texts | None = None
    """[n, m] of str, or None where no text is recorded."""

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.experts))
        for name, cells in self.cells().items():
            if cells.shape != shape:
                raise ValueError(f"{name} has the shape {cells.shape}; the table's is {shape}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The experts' names: the columns."""
        return tuple(expert.name for expert in self.experts)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have rows: train, test, ood, then others by name."""
        usual = ("train", "test", "ood")
        there = {query.split for query in self.queries}
        return tuple(s for s in usual if s in there) + tuple(sorted(there - set(usual)))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories that have rows, sorted; "" is that of rows without one."""
        return tuple(sorted({query.category or "" for query in self.queries}))

    @cached_property
    def category_codes(self) -> Int64Array:
        """Each row's category [n], as an index of `categories`."""
        number = {name: code for code, name in enumerate(self.categories)}
        return np.array([number[q.category or ""] for q in self.queries], np.int64)

    @cached_property
    def is_flagged(self) -> NDArray[np.bool_]:
        """Whether each row [n] is to be reported apart."""
        return np.array([bool(query.flags) for query in self.queries], np.bool_)

    def rows(self, wanted: NDArray[np.bool_] | Sequence[int] | Int64Array) -> OutcomeTable:
        """The table of some rows: a mask [n], or row numbers in the order wanted."""
        # NumPy takes an empty list for one of floats, which are no row numbers.
        chosen = np.asarray(wanted, None if len(wanted) else np.int64)
        index = np.arange(len(self.queries))[chosen]
        queries = tuple(self.queries[int(row)] for row in index)
        return self._take(queries, self.experts, index, axis=0)

    def split(self, name: str, *, flagged: bool = False) -> OutcomeTable:
        """The ordinary rows of a split, or its flagged ones.

        Raises:
            ConfigError: There is no split of that name.
        """
        if name not in self.splits:
            raise ConfigError(f"{self.name}: {unknown_name('split', name, self.splits)}")
        is_in_split = np.array([query.split == name for query in self.queries], np.bool_)
        return self.rows(is_in_split & (self.is_flagged == flagged))

    def with_experts(self, names: Sequence[str]) -> OutcomeTable:
        """The table of a sub-pool, its columns in the order given.

        Raises:
            ConfigError: A name is unknown or given twice, or there is none.
        """
        if not names:
            raise ConfigError(f"{self.name}: no expert is left; name at least one")
        for name in names:
            if name not in self.names:
                raise ConfigError(f"{self.name}: {unknown_name('expert', name, self.names)}")
            if names.count(name) > 1:
                raise ConfigError(f"{self.name}: expert {name!r} is named twice; name it once")
        index = np.array([self.names.index(name) for name in names], np.int64)
        experts = tuple(self.experts[self.names.index(name)] for name in names)
        return self._take(self.queries, experts, index, axis=1)

    def in_categories(self, names: Collection[str]) -> OutcomeTable:
        """The rows of some categories.

        Raises:
            ConfigError: A category has no row.
        """
        for name in names:
            if name not in self.categories:
                raise ConfigError(f"{self.name}: {unknown_name('category', name, self.categories)}")
        return self.rows(np.array([(q.category or "") in names for q in self.queries], np.bool_))

    def deduplicated(self) -> OutcomeTable:
        """The table without the rows outside train whose prompt is also in train.

        Prompts are compared without regard to case and white space.
        """
        trained = {normalised(query.prompt) for query in self.queries if query.split == "train"}
        kept = [q.split == "train" or normalised(q.prompt) not in trained for q in self.queries]
        return self.rows(np.array(kept, np.bool_))

    def folds(self, n_folds: int = 5, *, salt: str = "") -> Int64Array:
        """Each row's fold [n] in 0..n_folds-1: SHA-1 of (salt and) the query's id, modulo n_folds.

        So a query stays in its fold whatever other rows there are. A cross-validation inside one
        of these folds needs another salt.
        """
        digests = (
            hashlib.sha1((salt + q.id).encode(), usedforsecurity=False) for q in self.queries
        )
        return np.array([int(d.hexdigest(), 16) % n_folds for d in digests], np.int64)

    def category_means(self) -> NDArray[np.float64]:
        """Each expert's mean score in each category [s, m], s as `categories`; NaN: unknown."""
        sums = np.zeros((len(self.categories), len(self.experts)))
        known = np.zeros_like(sums)
        np.add.at(sums, self.category_codes, np.nan_to_num(self.score))
        np.add.at(known, self.category_codes, ~np.isnan(self.score))
        return np.divide(sums, known, out=np.full_like(sums, np.nan), where=known > 0)

    def macro_means(self) -> NDArray[np.float64]:
        """Each expert's score [m], the categories where it is known weighing equally.

        Not by rows: a train split that asks much of one category would choose an expert for it.
        """
        means = self.category_means()
        known = ~np.isnan(means)
        sums, counts = np.nansum(means, axis=0), known.sum(axis=0)
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    def to_queries(self, *, with_category: bool) -> tuple[Query, ...]:
        """What a user would have asked; the category only where the caller would know it."""
        return tuple(
            Query(
                q.id,
                (Message("user", q.prompt),),
                q.category if with_category else None,
                q.answer_type,
            )
            for q in self.queries
        )

    def cells(self) -> dict[str, NDArray[Any]]:
        """What there is of each cell, by the field's name: [n, m] each; of answers the codes."""
        cells: dict[str, NDArray[Any] | None] = {
            "score": self.score,
            "cost_usd": self.cost_usd,
            "latency_s": self.latency_s,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "answers": None if self.answers is None else self.answers.codes,
            "texts": self.texts,
        }
        return {name: values for name, values in cells.items() if values is not None}

    def _take(
        self,
        queries: tuple[RecordedQuery, ...],
        experts: tuple[RecordedExpert, ...],
        index: Int64Array,
        *,
        axis: int,
    ) -> OutcomeTable:
        taken: dict[str, Any] = {
            name: np.take(cells, index, axis) for name, cells in self.cells().items()
        }
        if self.answers is not None:
            taken["answers"] = replace(self.answers, codes=taken["answers"])
        return replace(self, queries=queries, experts=experts, **taken)


def normalised(prompt: str) -> str:
    """A prompt without regard to case and white space."""
    return " ".join(prompt.casefold().split())
