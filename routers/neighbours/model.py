"""Recorded queries, and what the nearest of them say of a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from composer.types import Evidence
from routers.calibration import logit
from routers.index import FlatIndex
from routers.kernel import Kernel, batches, kernel_means, n_counting
from routers.neighbours.kernel_choice import SPARE
from routers.shortened import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.index import Int64Array
    from routers.learning import Batch

Targets = Literal["scores", "successes"]
_DID: Mapping[str, str] = {"scores": "scored {:.2f}", "successes": "had {:.2f} of the successes"}


@dataclass(frozen=True, eq=False)
class NeighboursModel:
    """r recorded queries, and how m experts did on them."""

    experts: tuple[str, ...]
    texts: tuple[str, ...]
    embeddings: Float32Array
    """[r, d]."""
    targets: Float32Array
    """[r, m]; NaN: unknown."""
    prior: Float32Array
    """[m], each expert's mean."""
    kernel: Kernel
    kind: Targets
    categories: tuple[str, ...] = ()
    codes: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """[r], each recorded query's category, as an index of `categories`."""
    category_bonus: float = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """See `Model.settings`."""
        bonus = {"category_bonus": self.category_bonus}
        return {**asdict(self.kernel), **bonus, "targets": self.kind}

    @cached_property
    def index(self) -> FlatIndex:
        """Of the embeddings, with a number more for each category."""
        told = np.zeros((len(self.embeddings), len(self.categories)), np.float32)
        told[np.arange(len(self.codes)), self.codes] = np.sqrt(self.category_bonus)
        return FlatIndex(np.concatenate([self.embeddings, told], axis=1))

    def _nearest(self, batch: Batch) -> tuple[Float32Array, Int64Array]:
        """Similarities [n, K] and numbers of the nearest recorded queries."""
        number = {name: code for code, name in enumerate(self.categories) if name}
        told = np.zeros((len(batch), len(self.categories)), np.float32)
        for row, category in enumerate(batch.categories):
            if category in number:
                told[row, number[category]] = np.sqrt(self.category_bonus)
        k = min(self.kernel.k + SPARE, self.index.size)
        return self.index.top_k(np.concatenate([batch.embeddings, told], axis=1), k)

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        similarity, ids = self._nearest(batch)
        k = similarity.shape[1]
        means = [
            kernel_means(similarity[rows], self.targets[ids[rows]], self.prior, self.kernel)
            for rows in batches(np.arange(len(batch)), k, len(self.experts))
        ]
        return logit(np.concatenate(means)).astype(np.float32)

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`: the nearest that counts for which the expert is known."""
        similarity, ids = self._nearest(batch.rows(np.array([row], np.int64)))
        n = int(n_counting(similarity, self.kernel.k)[0])
        details = {"kernel": asdict(self.kernel), "counting": n}
        known = [
            (float(cosine), int(i))
            for cosine, i in zip(similarity[0, :n], ids[0, :n], strict=True)
            if not np.isnan(self.targets[i, column])
        ]
        if not known:
            return Evidence(
                f"none of {n} neighbours tells of {self.experts[column]!r}; its overall mean "
                f"{self.prior[column]:.2f}",
                details,
            )
        cosine, i = known[0]
        return Evidence(
            f"{_DID[self.kind].format(self.targets[i, column])} on the nearest recorded query "
            f"{shortened(self.texts[i], 60)!r}, cosine {cosine:.2f}, of {n} that count",
            details,
        )

    def without(self, column: int) -> NeighboursModel:
        """See `Model.without`."""
        return replace(
            self,
            experts=tuple(name for c, name in enumerate(self.experts) if c != column),
            targets=np.delete(self.targets, column, axis=1),
            prior=np.delete(self.prior, column),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {
            "experts": self.experts,
            "texts": self.texts,
            "kernel": asdict(self.kernel),
            "kind": self.kind,
            "categories": self.categories,
            "category_bonus": self.category_bonus,
        }
        arrays: dict[str, NDArray[Any]] = {
            "embeddings": self.embeddings,
            "targets": self.targets,
            "prior": self.prior,
            "codes": self.codes,
        }
        return meta, arrays
