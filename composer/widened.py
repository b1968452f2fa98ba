"""A saved router over all experts of a registry: of those that it never met, nothing is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer.protocols import Flow, Router, RouterNeed
from composer.types import Annotation, Evidence, Query, Scores


class WidenedRouter:
    """Scores as another router does, with a column of unknowns for each further expert.

    An expert of unknown quality is chosen by a rule's `fallback` alone, and asked after all others.

    Args:
        router: Who scores.
        unknown: The further experts, none of which it scores.
    """

    def __init__(self, router: Router, unknown: Sequence[str]) -> None:
        self.name: str = router.name
        self.needs: frozenset[RouterNeed] = router.needs
        self.router = router
        self.unknown = tuple(unknown)

    def annotate(self, query: Query) -> Flow[Annotation] | None:
        """See `Router.annotate`."""
        return self.router.annotate(query)

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`."""
        scores = self.router.score(queries, annotations)
        n, m = scores.quality.shape
        unknown = np.full((n, len(self.unknown)), np.nan, np.float32)

        def explain(row: int, column: int) -> Evidence:
            if column >= m:
                return Evidence(f"{self.unknown[column - m]!r} is not among those it was fitted on")
            return scores.why(row, column)

        quality = np.concatenate([scores.quality, unknown], axis=1)
        return Scores((*scores.experts, *self.unknown), quality, explain)
