"""Which rows a method is judged on, and on which it may learn before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable

N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Round:
    """One fit and what it is judged on; no row is in both."""

    train: OutcomeTable
    judged: OutcomeTable


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one line of a report: judged after one fit, or fold by fold."""

    name: str
    judged: OutcomeTable
    """All rows, in the order of the rounds."""
    rounds: tuple[Round, ...]


def make_parts(
    table: OutcomeTable, *, out_of_fold: bool = False, categories: Collection[str] = ()
) -> tuple[Part, ...]:
    """The parts of a table.

    Without `out_of_fold`: each split but train, its flagged rows as a part of their own
    (`test-flagged`); all are judged after one fit on the ordinary rows of train. With it:
    `train-oof`, the ordinary rows of train, each judged by a fit on the four folds it is not in.

    Args:
        table: All rows.
        out_of_fold: See above.
        categories: Judge on the rows of these only, fit on all; none: all.

    Raises:
        ConfigError: There is no train split to learn from, nothing to judge, or no such category.
    """
    if "train" not in table.splits or not (train := table.split("train")).queries:
        raise ConfigError(
            f"{table.name}: no train split to choose and to learn on (flagged rows do not count); "
            "mark some queries 'train'"
        )
    # Says which category there is not.
    table.in_categories(categories)
    if out_of_fold:
        return (_out_of_fold(train, categories),)
    parts: list[Part] = []
    for split in table.splits:
        for flagged in (False, True):
            rows = _only(table.split(split, flagged=flagged), categories)
            if split != "train" and rows.queries:
                name = f"{split}-flagged" if flagged else split
                parts.append(Part(name, rows, (Round(train, rows),)))
    if not parts:
        lack = f"no query of {sorted(categories)} outside train" if categories else "only train"
        raise ConfigError(
            f"{table.name}: no test split, {lack}; judge out of fold (--out-of-fold), or mark some "
            "queries 'test'"
        )
    return tuple(parts)


def _out_of_fold(train: OutcomeTable, categories: Collection[str]) -> Part:
    folds = train.folds(N_FOLDS)
    rounds = [
        Round(train.rows(folds != fold), _only(train.rows(folds == fold), categories))
        for fold in np.unique(folds)
    ]
    if len(rounds) < 2:
        raise ConfigError(
            f"{train.name}: {len(train.queries)} train queries are too few for folds; record more"
        )
    judged = _only(train.rows(np.argsort(folds, kind="stable")), categories)
    if not judged.queries:
        raise ConfigError(
            f"{train.name}: no query of {sorted(categories)} in train to judge out of fold; leave "
            "out --out-of-fold, or name other categories"
        )
    return Part("train-oof", judged, tuple(each for each in rounds if each.judged.queries))


def _only(table: OutcomeTable, categories: Collection[str]) -> OutcomeTable:
    if not categories:
        return table
    return table.rows(np.array([(q.category or "") in categories for q in table.queries], np.bool_))
