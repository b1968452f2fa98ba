"""The cells of a table that is being read: each is named by a query and a model."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from composer.outcomes.lines import MODELS, OUTCOMES, PARTIAL, QUERIES, Text, read_lines
from composer.outcomes.table import NOT_EXTRACTED, NOT_RECORDED, Answers
from composer.suggest import unknown_name

if TYPE_CHECKING:
    from composer.outcomes.table import Texts
    from composer.types import Float32Array

Score = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=1e15, allow_inf_nan=False)]
"""No cost, time or count is larger, and float32 holds it."""


class _Outcome(TypedDict):
    query_id: Text
    model: Text
    score: Score
    cost: NotRequired[Amount | None]
    answer: NotRequired[Text | None]
    tokens_in: NotRequired[Amount | None]
    tokens_out: NotRequired[Amount | None]
    latency_s: NotRequired[Amount | None]


class _Response(TypedDict):
    query_id: Text
    model: Text
    response: Text | None


AMOUNTS = (
    ("cost_usd", "cost"),
    ("latency_s", "latency_s"),
    ("prompt_tokens", "tokens_in"),
    ("completion_tokens", "tokens_out"),
)
"""The table's name of each amount, and the lines' name."""


class CellReader:
    """Fills n x m cells, line by line.

    Args:
        query_ids: The rows, n of them.
        models: The columns, m of them.
        on_problem: See `read_lines`; also called with lines that name no cell, or one again.
    """

    def __init__(
        self, query_ids: Sequence[str], models: Sequence[str], on_problem: Callable[[str], None]
    ) -> None:
        self._rows = {query_id: row for row, query_id in enumerate(query_ids)}
        self._columns = {model: column for column, model in enumerate(models)}
        self._on_problem = on_problem
        self._shape = (len(query_ids), len(models))
        # Flat arrays of Python's own take single values several times faster than NumPy's.
        self._score = self._unknown()
        self._is_filled = bytearray(len(self._score))
        self._amounts: dict[str, array[float]] = {}
        self._codes: array[int] | None = None
        self._values: dict[str, int] = {}
        self._hints: dict[str, str] = {}

    def read_outcomes(self, file: Path, columns: range) -> None:
        """Fill cells of these columns from a file of outcomes."""
        for number, line in read_lines(file, _Outcome, on_problem=self._on_problem):
            query_id, model = line["query_id"], line["model"]
            row, column = self._rows.get(query_id), self._columns.get(model)
            if row is None or column is None:
                self._report_unknown(file, number, query_id, model)
                continue
            cell = row * self._shape[1] + column
            if column not in columns:
                home = PARTIAL if file.name == OUTCOMES else OUTCOMES
                self._report(file, number, f"'model': {model!r} belongs in {home}; move the line")
            elif self._is_filled[cell]:
                self._report_again(file, number, query_id, model)
            else:
                self._fill(cell, line)

    def read_texts(self, file: Path) -> Texts:
        """The texts [n, m] of a file of responses; None where there is none."""
        texts: Texts = np.full(self._shape, None, np.object_)
        for number, line in read_lines(file, _Response, on_problem=self._on_problem):
            query_id, model = line["query_id"], line["model"]
            row, column = self._rows.get(query_id), self._columns.get(model)
            if row is None or column is None:
                self._report_unknown(file, number, query_id, model)
            elif texts[row, column] is not None:
                self._report_again(file, number, query_id, model)
            else:
                texts[row, column] = line["response"]
        return texts

    def score(self) -> Float32Array:
        """The scores [n, m]; NaN: unknown."""
        return self._cells(self._score)

    def amounts(self) -> dict[str, Float32Array]:
        """Each amount [n, m] that is recorded anywhere, by the table's name; NaN: unknown."""
        return {name: self._cells(values) for name, values in self._amounts.items()}

    def answers(self) -> Answers | None:
        """The answers; None: none is recorded anywhere."""
        if self._codes is None:
            return None
        values = sorted(self._values)
        order = np.empty(len(values) + 2, np.int32)
        # The two codes below zero stand for themselves: they index from the end.
        order[NOT_EXTRACTED], order[NOT_RECORDED] = NOT_EXTRACTED, NOT_RECORDED
        order[[self._values[value] for value in values]] = np.arange(len(values))
        return Answers(tuple(values), order[self._cells(self._codes)])

    def _fill(self, cell: int, line: _Outcome) -> None:
        self._is_filled[cell] = True
        self._score[cell] = line["score"]
        for name, key in AMOUNTS:
            amount: float | None = line.get(key)
            if amount is not None:
                if name not in self._amounts:
                    self._amounts[name] = self._unknown()
                self._amounts[name][cell] = amount
        if "answer" in line:
            if self._codes is None:
                self._codes = array("i", [NOT_RECORDED]) * len(self._score)
            answer = line["answer"]
            self._codes[cell] = (
                NOT_EXTRACTED
                if answer is None
                else self._values.setdefault(answer, len(self._values))
            )

    def _unknown(self) -> array[float]:
        return array("f", [math.nan]) * math.prod(self._shape)

    def _cells(self, values: array[Any]) -> Any:
        return np.array(values).reshape(self._shape)

    def _report_unknown(self, file: Path, number: int, query_id: str, model: str) -> None:
        if query_id not in self._rows:
            self._report(
                file, number, f"'query_id': {query_id!r} is not in {QUERIES}; add it there"
            )
        else:
            # Looking for what was meant takes a while, and who errs once errs on every line.
            if model not in self._hints:
                self._hints[model] = unknown_name("model", model, self._columns)
            self._report(file, number, f"'model': {MODELS} has {self._hints[model]}")

    def _report_again(self, file: Path, number: int, query_id: str, model: str) -> None:
        self._report(
            file, number, f"'model': {model!r} is there for {query_id!r} already; leave one"
        )

    def _report(self, file: Path, number: int, problem: str) -> None:
        self._on_problem(f"{file}:{number}: {problem}")
