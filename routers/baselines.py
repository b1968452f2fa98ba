"""Routers that ignore the query's text: what every other router has to beat."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from composer.errors import ConfigError, RoutingError
from composer.suggest import suggest
from composer.types import Evidence, Scores
from routers.artefact import load_artefact, save_artefact

if TYPE_CHECKING:
    from composer.experts import Expert
    from composer.outcomes import OutcomeTable
    from composer.protocols import RouterNeed
    from composer.types import Annotation, Float32Array, Query


class FixedRouter:
    """Always the same expert: quality 1 for it and 0 for the others.

    Raises:
        ConfigError: The expert is not one of those to score.
    """

    name = "fixed"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(self, experts: Mapping[str, Expert], expert: str) -> None:
        if expert not in tuple(experts):
            raise ConfigError(
                f"router 'fixed' names no known expert: {expert!r}; {suggest(str(expert), experts)}"
            )
        self._experts = tuple(experts)
        self._expert = expert

    def annotate(self, query: Query) -> None:
        """None: the query is not looked at."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        row = np.array([name == self._expert for name in self._experts], np.float32)
        reason = f"the configuration names {self._expert!r} for every query"
        return Scores(
            self._experts,
            np.tile(row, (len(queries), 1)),
            lambda query, expert: Evidence(reason, {"expert": self._expert}),
        )


class RandomRouter:
    """Uniform draws in [0, 1), so that each expert is equally likely to come first.

    A draw depends only on the seed, the query's id and the expert's name: a query scores the same
    in whatever batch it comes, and an expert added or removed leaves the others' draws alone.

    Raises:
        ConfigError: The seed is not a whole number.
    """

    name = "random"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(self, experts: Mapping[str, Expert], seed: int = 0) -> None:
        if type(seed) is not int:
            raise ConfigError(f"router 'random' has the seed {seed!r}; give a whole number")
        self._experts = tuple(experts)
        self._seed = seed

    def annotate(self, query: Query) -> None:
        """None: the query is not looked at."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        draws = [[self._draw(query.id, name) for name in self._experts] for query in queries]
        return Scores(
            self._experts,
            np.array(draws, np.float32).reshape(len(queries), len(self._experts)),
            lambda query, expert: Evidence(
                f"drawn at random, seed {self._seed}", {"seed": self._seed}
            ),
        )

    def _draw(self, query_id: str, expert: str) -> float:
        key = repr((self._seed, query_id, expert)).encode()
        # 24 bits: every value is exact in float32, so no draw rounds up to 1.
        return int.from_bytes(blake2b(key, digest_size=3).digest()) / 2**24


class RoundRobinRouter:
    """The experts in turn, in the order of their names in experts.yaml.

    The query's turn is its place in the order of arrival, over the router's whole life: a counter,
    the one state it has, guarded by a lock so that threads share one rotation. The expert whose
    turn it is gets quality 1, the one after it (m - 1) / m, and so on down to 1 / m, so that k
    experts are k neighbours in the rotation. The counter is not saved: a new router begins anew.
    """

    name = "round_robin"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(self, experts: Mapping[str, Expert]) -> None:
        self._experts = tuple(experts)
        self._turn = 0
        self._lock = threading.Lock()

    def annotate(self, query: Query) -> None:
        """None: the query is not looked at."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        with self._lock:
            first = self._turn
            self._turn += len(queries)
        experts = self._experts
        turns = first + np.arange(len(queries))
        places = (np.arange(len(experts)) - turns[:, None]) % len(experts)

        def explain(query: int, expert: int) -> Evidence:
            turn, place = int(turns[query]), int(places[query, expert])
            due = experts[turn % len(experts)]
            return Evidence(
                f"turn {turn} is {due!r}'s; {experts[expert]!r} comes {place} after it",
                {"turn": turn, "place": place},
            )

        return Scores(experts, (1 - places / len(experts)).astype(np.float32), explain)


class PriorRouter:
    """Each expert's mean recorded score: over all categories, or in the query's if that is known.

    The categories weigh equally in the overall mean. So without categories its first choice is the
    best single expert, and with them the best expert of each category; an expert never asked in a
    category keeps its overall mean there.
    """

    name = "prior"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(self) -> None:
        self._experts: tuple[str, ...] = ()
        self._overall = np.zeros(0, np.float32)
        self._by_category: dict[str, Float32Array] = {}

    @property
    def experts(self) -> tuple[str, ...]:
        """See `FittedRouter.experts`.

        Raises:
            RoutingError: It is not fitted.
        """
        if not self._experts:
            raise RoutingError("router 'prior' is not fitted; fit it on recorded outcomes")
        return self._experts

    @property
    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def fit(self, table: OutcomeTable) -> Self:
        """Take in recorded outcomes, all rows of the table.

        Raises:
            ConfigError: There is no outcome at all.
        """
        if np.isnan(table.score).all():
            raise ConfigError("router 'prior': no outcome to learn from; fit it on another table")
        self._experts = table.names
        self._overall = table.macro_means().astype(np.float32)
        by_category = zip(table.categories, table.category_means(), strict=True)
        # Rows without a category tell nothing of a query whose category is not known.
        self._by_category = {name: row.astype(np.float32) for name, row in by_category if name}
        return self

    def annotate(self, query: Query) -> None:
        """None: the query is not looked at."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`.

        Raises:
            RoutingError: It is not fitted.
        """
        experts, overall = self.experts, self._overall
        unknown = np.full_like(overall, np.nan)
        there = np.stack(
            [self._by_category.get(query.category or "", unknown) for query in queries]
        )
        quality = np.where(np.isnan(there), overall, there)

        def explain(query: int, expert: int) -> Evidence:
            if np.isnan(quality[query, expert]):
                return Evidence(f"no outcome of {experts[expert]!r} is recorded")
            is_overall = np.isnan(there[query, expert])
            where = "over all categories" if is_overall else f"in {queries[query].category!r}"
            return Evidence(f"{experts[expert]!r} scored {quality[query, expert]:.3f} {where}")

        return Scores(experts, quality, explain)

    def save(self, folder: Path) -> None:
        """Write the means.

        Raises:
            ConfigError: It is not fitted.
        """
        if not self._experts:
            raise ConfigError("router 'prior' is not fitted; fit it before it is saved")
        rows = np.stack([self._overall, *self._by_category.values()])
        meta = {"experts": self._experts, "categories": list(self._by_category)}
        save_artefact(folder, self.name, meta, {"rows": rows})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote.

        Raises:
            ConfigError: There is none, or it is not whole.
        """
        meta, arrays = load_artefact(folder, cls.name)
        router = cls()
        router._experts = tuple(meta["experts"])
        router._overall, *rows = arrays["rows"]
        router._by_category = dict(zip(meta["categories"], rows, strict=True))
        return router
