"""What experts.yaml says that experts are for, as recorded outcomes that routers learn from too.

Recorded questions alone teach a router nothing of what nobody asked: it would send a greeting to
whoever was good at the question that looks most like it. Weak labels, as retrieval by examples uses
them, mixed with the measured ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from composer.errors import ConfigError
from composer.experts import Registry
from composer.outcomes import OutcomeTable, RecordedQuery


def with_examples(table: OutcomeTable, registry: Registry) -> OutcomeTable:
    """The table's scores, and a train row for each example of its experts: it alone was right.

    The row's category is the expert's name, what it took is unknown; texts and answers go.

    Args:
        table: Experts are its columns.
        registry: Has the examples of these experts; of others none is taken.

    Raises:
        ConfigError: None of the table's experts has an example there.
    """
    queries: list[RecordedQuery] = []
    columns: list[int] = []
    for column, name in enumerate(table.names):
        examples = registry.experts[name].examples if name in registry.experts else ()
        for number, example in enumerate(examples):
            queries.append(RecordedQuery(f"example/{name}/{number}", example, "train", name))
            columns.append(column)
    if not queries:
        raise ConfigError(
            f"{registry.path}: has no example of any expert in {table.name!r}; write some, or name "
            "another experts.yaml"
        )
    scores = np.zeros((len(queries), len(table.names)), np.float32)
    scores[np.arange(len(queries)), columns] = 1
    bare = replace(table, answers=None, texts=None)
    unknown = np.full_like(scores, np.nan)
    cells = {name: np.concatenate([known, unknown]) for name, known in bare.cells().items()}
    cells["score"] = np.concatenate([table.score, scores])
    return replace(bare, queries=(*table.queries, *queries), **cells)
