"""Recorded outcomes to choose the best single expert on, in the place of asking train cases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import NOT_RECORDED, Answers, OutcomeTable, read_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int32Array = NDArray[np.int32]

AMOUNTS = ("cost_usd", "latency_s", "prompt_tokens", "completion_tokens")


def read_recorded(
    folder: Path, experts: Sequence[str], asked: Collection[str | None] = ()
) -> OutcomeTable:
    """The ordinary train rows of a table, with the columns of these experts.

    What is recorded of other kinds of questions than are asked would tell of another best single
    expert: where every category that is asked has train rows, rows of other ones are left out.

    Args:
        folder: Of a table in either form; a run's folder of experts is one.
        experts: All of them have to be in it.
        asked: The categories of the test questions; none: all rows count.

    Raises:
        ConfigError: It cannot be read, lacks an expert, or has no train row.
    """
    table = read_table(folder)
    if lacks := [name for name in experts if name not in table.names]:
        raise ConfigError(
            f"{folder}: nothing is recorded of {lacks}; profile them as well, or leave them out "
            "with --only"
        )
    train = table.with_experts(experts)
    train = train.rows([i for i, q in enumerate(train.queries) if q.split == "train"])
    train = train.rows(~train.is_flagged)
    wanted = {category or "" for category in asked}
    if wanted and wanted <= set(train.categories):
        train = train.in_categories(sorted(wanted))
    if not train.queries:
        raise ConfigError(
            f"{folder}: no ordinary train row to choose the best single expert on; name another "
            "folder, or leave out --outcomes"
        )
    return train


def join(first: OutcomeTable, second: OutcomeTable) -> OutcomeTable:
    """The rows of two tables of the same experts, the second's after the first's.

    What only one of them has is unknown in the rows of the other. Name and experts are the
    second's.
    """
    assert first.names == second.names, "the columns are the same"
    tables = (first, second)
    amounts: dict[str, Any] = {}
    for amount in AMOUNTS:
        cells = [table.cells().get(amount) for table in tables]
        if any(each is not None for each in cells):
            amounts[amount] = np.concatenate(
                [
                    np.full_like(table.score, np.nan) if each is None else each
                    for table, each in zip(tables, cells, strict=True)
                ]
            )
    return OutcomeTable(
        second.name,
        (*first.queries, *second.queries),
        second.experts,
        np.concatenate([table.score for table in tables]),
        answers=_join_answers(tables),
        texts=_join_texts(tables),
        **amounts,
    )


def _join_texts(tables: Sequence[OutcomeTable]) -> NDArray[np.object_] | None:
    if all(table.texts is None for table in tables):
        return None
    return np.concatenate(
        [
            np.full(table.score.shape, None, np.object_) if table.texts is None else table.texts
            for table in tables
        ]
    )


def _join_answers(tables: Sequence[OutcomeTable]) -> Answers | None:
    known = [table.answers for table in tables if table.answers is not None]
    if not known:
        return None
    values = sorted({value for answers in known for value in answers.values})
    number = {value: code for code, value in enumerate(values)}
    return Answers(tuple(values), np.concatenate([_recoded(t, number) for t in tables]))


def _recoded(table: OutcomeTable, number: Mapping[str, int]) -> Int32Array:
    """The codes [n, m] of a table's answers as those of other values; below 0 as they are."""
    if table.answers is None:
        return np.full(table.score.shape, NOT_RECORDED, np.int32)
    codes = table.answers.codes
    other = np.array([number[value] for value in table.answers.values] or [0], np.int32)
    return np.where(codes < 0, codes, other[np.maximum(codes, 0)])
