"""What may be odd about a table of outcomes: one check each, and what it finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np

from composer.outcomes.table import OutcomeTable, RecordedQuery, normalised

if TYPE_CHECKING:
    from composer.outcomes.table import Int64Array

Kind = Literal[
    "unreadable",
    "score_range",
    "empty_prompt",
    "leak",
    "duplicates",
    "missing",
    "constant",
    "copy",
    "ties",
    "split",
    "few_train_rows",
    "unseen_category",
]
Severity = Literal["error", "warning", "note"]

MAX_ROWS = 10
"""Query ids that a finding lists, and names that its message does."""
MIN_TRAIN_ROWS = 10
"""Below this a category's means say little: 10 rows leave a mean of 0.5 within +-0.3."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is odd."""

    kind: Kind
    severity: Severity
    """An `error` spoils what is computed, a `warning` may, a `note` is worth knowing."""
    message: str
    """One line for people."""
    rows: tuple[str, ...] = ()
    """Ids of the queries concerned, the first few."""
    n_rows: int = 0
    """How many queries are concerned."""


def _score_range(table: OutcomeTable) -> Iterator[Finding]:
    is_outside = (table.score < 0) | (table.score > 1)
    if is_outside.any():
        row, column = map(int, np.argwhere(is_outside)[0])
        yield _finding(
            table,
            "score_range",
            "error",
            f"scores outside [0, 1]: {is_outside.sum():,}, first {table.score[row, column]:g} "
            f"of {table.names[column]!r} for {table.queries[row].id!r}; scale them",
            np.flatnonzero(is_outside.any(axis=1)),
        )


def _empty_prompts(table: OutcomeTable) -> Iterator[Finding]:
    rows = [row for row, query in enumerate(table.queries) if not query.prompt.strip()]
    if rows:
        message = f"empty prompts: {len(rows):,}; take these queries out"
        yield _finding(table, "empty_prompt", "error", message, rows)


def _missing(table: OutcomeTable) -> Iterator[Finding]:
    n = len(table.queries)
    for expert, scores in zip(table.experts, table.score.T, strict=True):
        rows = np.flatnonzero(np.isnan(scores))
        if len(rows) == 0:
            continue
        message = f"expert {expert.name!r} lacks outcomes: {len(rows):,} of {n:,}"
        if len(rows) == n:
            yield _finding(table, "missing", "error", f"{message}; take it out", rows)
        elif expert.is_partial:
            yield _finding(table, "missing", "note", f"{message}, being partial", rows)
        else:
            message += "; compare it on the others only, or mark it partial"
            yield _finding(table, "missing", "warning", message, rows)


def _constant(table: OutcomeTable) -> Iterator[Finding]:
    for name, scores in zip(table.names, table.score.T, strict=True):
        known = np.flatnonzero(~np.isnan(scores))
        if len(known) > 1 and np.ptp(scores[known]) == 0:
            message = f"expert {name!r} scores {scores[known[0]]:g} on every query; was it scored?"
            yield _finding(table, "constant", "warning", message, known)


def _ties(table: OutcomeTable) -> Iterator[Finding]:
    compared = np.flatnonzero((~np.isnan(table.score)).sum(axis=1) > 1)
    if len(compared) == 0:
        return
    scores = table.score[compared]
    rows = compared[np.nanmax(scores, axis=1) == np.nanmin(scores, axis=1)]
    if len(rows):
        message = (
            f"on {len(rows):,} of {len(compared):,} queries ({len(rows) / len(compared):.1%}) all "
            "experts score alike; no choice matters there"
        )
        yield _finding(table, "ties", "note", message, rows)


def _copies(table: OutcomeTable) -> Iterator[Finding]:
    is_known = ~np.isnan(table.score)
    for first, name in enumerate(table.names):
        for second in range(first + 1, len(table.names)):
            both = is_known[:, first] & is_known[:, second]
            ours, theirs = table.score[both, first], table.score[both, second]
            if len(ours) > 1 and np.array_equal(ours, theirs) and np.ptp(ours) > 0:
                message = (
                    f"experts {name!r} and {table.names[second]!r} score alike on every query; "
                    "is one a copy?"
                )
                yield _finding(table, "copy", "warning", message, np.flatnonzero(both))


def _leaks(table: OutcomeTable) -> Iterator[Finding]:
    leaked = [
        row
        for rows in _same_prompt(table)
        if any(table.queries[row].split == "train" for row in rows)
        for row in rows
        if table.queries[row].split != "train"
    ]
    unflagged = [row for row in leaked if not table.is_flagged[row]]
    flagged = [row for row in leaked if table.is_flagged[row]]
    message = "queries outside train with a prompt that is in train as well"
    if unflagged:
        remedy = "leave them out (OutcomeTable.deduplicated), or flag them"
        said = f"{message}: {len(unflagged):,}; {remedy}"
        yield _finding(table, "leak", "warning", said, unflagged)
    if flagged:
        said = f"{message}, flagged: {len(flagged):,}; report them apart"
        yield _finding(table, "leak", "note", said, flagged)


def _duplicates(table: OutcomeTable) -> Iterator[Finding]:
    groups = _same_prompt(table)
    noisy: list[int] = []
    n_compared = n_differing = 0
    for rows in groups:
        scores = table.score[rows]
        scores = scores[:, (~np.isnan(scores)).sum(axis=0) > 1]
        differs = np.nanmax(scores, axis=0) != np.nanmin(scores, axis=0)
        n_compared += len(differs)
        n_differing += int(differs.sum())
        if differs.any():
            noisy += rows
    if groups:
        message = f"prompts that occur more than once: {len(groups):,}"
        if noisy:
            message += (
                f"; in {n_differing / n_compared:.1%} of their cells an expert's scores "
                "differ; no router can tell them apart"
            )
        yield _finding(
            table,
            "duplicates",
            "warning" if noisy else "note",
            message,
            noisy or [row for rows in groups for row in rows],
        )


def _splits(table: OutcomeTable) -> Iterator[Finding]:
    there = {query.split for query in table.queries if not query.flags}
    for name, use in (("train", "fitted on"), ("test", "measured on")):
        if name not in there:
            message = (
                f"no ordinary row in {name!r}, so nothing to be {use}; "
                f"there are {list(table.splits)}"
            )
            yield Finding("split", "warning", message)


def _few_train_rows(table: OutcomeTable) -> Iterator[Finding]:
    rows = _rows_by_category(table, lambda query: query.split == "train" and not query.flags)
    few = {category: there for category, there in rows.items() if len(there) < MIN_TRAIN_ROWS}
    if few:
        message = f"categories with fewer than {MIN_TRAIN_ROWS} train rows: {_counted(few)}"
        yield _finding(table, "few_train_rows", "warning", message, list(chain(*few.values())))


def _unseen_categories(table: OutcomeTable) -> Iterator[Finding]:
    trained = _rows_by_category(table, lambda query: query.split == "train")
    elsewhere = _rows_by_category(table, lambda query: query.split != "train")
    unseen = {category: there for category, there in elsewhere.items() if category not in trained}
    if trained and unseen:
        rows = list(chain(*unseen.values()))
        is_tested = any(table.queries[row].split == "test" for row in rows)
        message = f"categories that are not in train: {_counted(unseen)}"
        severity = "warning" if is_tested else "note"
        yield _finding(table, "unseen_category", severity, message, rows)


CHECKS: tuple[Callable[[OutcomeTable], Iterator[Finding]], ...] = (
    _score_range,
    _empty_prompts,
    _missing,
    _splits,
    _leaks,
    _duplicates,
    _constant,
    _copies,
    _few_train_rows,
    _unseen_categories,
    _ties,
)


def _finding(
    table: OutcomeTable,
    kind: Kind,
    severity: Severity,
    message: str,
    rows: Sequence[int] | Int64Array,
) -> Finding:
    shown = tuple(table.queries[int(row)].id for row in rows[:MAX_ROWS])
    return Finding(kind, severity, message, shown, len(rows))


def _same_prompt(table: OutcomeTable) -> list[list[int]]:
    """Rows that have one prompt, where there are several; empty prompts are not compared."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, query in enumerate(table.queries):
        groups[normalised(query.prompt)].append(row)
    groups.pop("", None)
    return [rows for rows in groups.values() if len(rows) > 1]


def _rows_by_category(
    table: OutcomeTable, wanted: Callable[[RecordedQuery], bool]
) -> dict[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, query in enumerate(table.queries):
        if query.category and wanted(query):
            rows[query.category].append(row)
    return rows


def _counted(rows: Mapping[str, Sequence[int]]) -> str:
    """The first categories by name, with how many rows each has."""
    names = [f"{category!r} ({len(rows[category]):,})" for category in sorted(rows)]
    n_more = len(names) - MAX_ROWS
    return ", ".join(names[:MAX_ROWS]) + (f" and {n_more:,} more" if n_more > 0 else "")
