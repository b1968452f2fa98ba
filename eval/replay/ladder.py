"""The rungs that every method stands between: from a random expert to the oracle.

    random              an expert drawn at random: the expectation, not a draw
    best-single         the best expert on train, each category weighing equally
    category-expert     the best expert on train in the query's category, which is always known to
                        it; best-single's where the category was not trained on
    category-hindsight  the best expert of each category on the judged rows themselves
    oracle              the best expert for each query; of equal ones the cheapest
    fixed               one expert for all queries (setting: expert)

All but `random` ask one expert. Ties on train go to the expert with the better overall mean; all
that are left go to the one that comes first by name, so the order of the columns does not matter.

Source: best single, category expert and oracle as in RouterDC (arXiv 2409.19886, table 1) and
LLMRouterBench (arXiv 2601.07206), where the category expert is called the dataset oracle if it is
chosen on the judged rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from composer.suggest import suggest
from eval.replay.judged import Decision, Judged
from eval.replay.parts import Round

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float64Array = NDArray[np.float64]


def random_expert(each: Round) -> Judged:
    """The expectation over experts drawn uniformly among those whose outcome is known."""
    table = each.judged
    score = _row_means(table.score)
    cost = _row_means(np.where(np.isnan(table.score), np.nan, _cost(table)))
    decisions = zip(table.queries, score, cost, strict=True)
    return Judged(
        "random", tuple(Decision(q.id, None, (), float(s), float(c)) for q, s, c in decisions)
    )


def best_single(each: Round) -> Judged:
    """The best expert on train, each category weighing equally."""
    best = _best(each.train.macro_means(), each.train)
    columns = np.full(len(each.judged.queries), best)
    return _ask_one("best-single", each.judged, columns, {"expert": each.train.names[best]})


def category_expert(each: Round) -> Judged:
    """The best expert on train in the query's category."""
    chosen = best_by_category(each.train)
    fallback = _best(each.train.macro_means(), each.train)
    columns = [chosen.get(q.category or "", fallback) for q in each.judged.queries]
    settings = {c or "(none)": each.train.names[column] for c, column in chosen.items()}
    return _ask_one("category-expert", each.judged, np.array(columns), settings)


def category_hindsight(each: Round) -> Judged:
    """The best expert of each category on the rows that are judged."""
    chosen = best_by_category(each.judged)
    columns = [chosen[q.category or ""] for q in each.judged.queries]
    return _ask_one("category-hindsight", each.judged, np.array(columns), {})


def oracle(each: Round) -> Judged:
    """The best expert for each query; of equal ones the cheapest."""
    table = each.judged
    place = np.array([sorted(table.names).index(name) for name in table.names])
    # The last key counts first, and what is unknown comes last.
    keys = (np.broadcast_to(place, table.score.shape), _cost(table), -table.score)
    return _ask_one("oracle", table, np.lexsort(keys)[:, 0], {})


def fixed(each: Round, *, expert: str) -> Judged:
    """One expert for all queries.

    Raises:
        ConfigError: The table has no such expert.
    """
    if expert not in each.judged.names:
        raise ConfigError(
            f"method 'fixed' names no recorded expert: {expert!r}; "
            f"{suggest(expert, each.judged.names)}"
        )
    columns = np.full(len(each.judged.queries), each.judged.names.index(expert))
    return _ask_one(f"fixed[expert={expert}]", each.judged, columns, {"expert": expert})


LADDER: Mapping[str, Callable[[Round], Judged]] = {
    "random": random_expert,
    "best-single": best_single,
    "category-expert": category_expert,
    "category-hindsight": category_hindsight,
    "oracle": oracle,
}
"""The rungs by name; methods are printed between `category-expert` and `category-hindsight`."""


def best_by_category(table: OutcomeTable) -> dict[str, int]:
    """The column of the best expert of each category of a table."""
    means = table.category_means()
    return {c: _best(row, table) for c, row in zip(table.categories, means, strict=True)}


def _best(means: Float64Array, table: OutcomeTable) -> int:
    # Where nothing is known of anyone all are tied, and the overall mean decides.
    here, overall = (np.nan_to_num(each, nan=-1) for each in (means, table.macro_means()))
    return min(range(len(here)), key=lambda c: (-here[c], -overall[c], table.names[c]))


def _ask_one(
    method: str, table: OutcomeTable, columns: Int64Array, settings: Mapping[str, Any]
) -> Judged:
    rows = np.arange(len(table.queries))
    score, cost = table.score[rows, columns], _cost(table)[rows, columns]
    names = [table.names[int(column)] for column in columns]
    decisions = tuple(
        Decision(query.id, name, (name,), float(s), float(c))
        for query, name, s, c in zip(table.queries, names, score, cost, strict=True)
    )
    return Judged(method, decisions, settings)


def _cost(table: OutcomeTable) -> NDArray[np.float32]:
    return np.full_like(table.score, np.nan) if table.cost_usd is None else table.cost_usd


def _row_means(cells: NDArray[np.float32]) -> Float64Array:
    known = ~np.isnan(cells)
    counts = known.sum(axis=1)
    sums = np.where(known, cells, 0).sum(axis=1, dtype=np.float64)
    return np.divide(sums, counts, out=np.full(len(cells), np.nan), where=counts > 0)
