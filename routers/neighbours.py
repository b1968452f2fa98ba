"""Routes to the experts that did best on the recorded queries nearest to the query.

The quality of an expert is its mean score over the k nearest queries of the training table,
weighted by similarity and shrunk towards its mean over all of them:

    w_i = exp((cosine_i - cosine_1) / temperature)
    quality_j = (sum_i w_i score_ij + shrinkage * mean_j) / (sum_i w_i + shrinkage)

over the neighbours i for which expert j's score is known. With `targets: successes` a neighbour's
scores are divided by their sum over the experts, and a query on which every expert failed is no
neighbour: what few experts got right says more than what all did. The quality is then an expert's
share of the successes nearby, not a probability of success.

Sources: the k-nearest-neighbours router of RouterBench (arXiv 2403.12031, section 4.1) and of
LLMRouter (github.com/ulab-uiuc/LLMRouter); `targets: successes` is the kernel regression of C3PO
(arXiv 2504.07964; github.com/tianyi-lab/C3PO at e4e064a), carried over from the experts within one
model to whole models: the routing weights of a neighbour are its scores.

Deviations:
- LLMRouter labels a training query with its one best expert, and where several are best, which is
  most often, with the first in the file. Here no query is labelled: every expert keeps its score,
  and neighbours that are equally near share the last places, so no order of rows or columns counts.
- C3PO weighs 3 neighbours by their cosines. Here the weight is exponential in the cosine, since
  cosines of sentence embeddings differ little where the texts differ much.
- Neither shrinks: with few or distant neighbours one lucky answer would decide.
- k, temperature and shrinkage are chosen by cross-validation on the training table, unless given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from composer.errors import ConfigError, RoutingError
from composer.suggest import suggest
from composer.types import Evidence, Scores
from routers.artefact import discard_artefact, load_artefact, save_artefact
from routers.features import LEXICAL_SHARE, Features
from routers.index import FlatIndex
from routers.kernel import Kernel, batches, kernel_means, n_counting
from routers.kernel_choice import SPARE, Grid, choose_kernel

if TYPE_CHECKING:
    from composer.outcomes import OutcomeTable
    from composer.protocols import Encoder, RouterNeed
    from composer.types import Annotation, Float32Array, Query
    from routers.index import Int64Array

Targets = Literal["scores", "successes"]
SHOWN = 5
"""Neighbours in the evidence."""
SAME = 0.99
"""Cosine of a text's embeddings by one encoder, run on whatever machine: at least so much."""
_RANGES: Mapping[str, tuple[str, tuple[type, ...], float]] = {
    "k": ("a whole number", (int,), 1),
    "temperature": ("a number", (int, float), 1e-6),
    "shrinkage": ("a number", (int, float), 0),
}
_DID: Mapping[str, str] = {"scores": "scored {:.2f}", "successes": "had {:.2f} of the successes"}


class NeighboursRouter:
    """Scores an expert by how it did on the recorded queries nearest to the query.

    Args:
        encoder: Embeds recorded queries and new ones alike, by their meaning.
        k: Neighbours that count; None: chosen on the training table, as are the next two.
        temperature: Of the cosine.
        shrinkage: Weight of an expert's overall mean, in neighbours as near as the nearest.
        targets: See the module.
        lexical_share: Of the cosine by words, see `routers.features`.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "neighbours"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        encoder: Encoder,
        *,
        k: int | None = None,
        temperature: float | None = None,
        shrinkage: float | None = None,
        targets: Targets = "scores",
        lexical_share: float = LEXICAL_SHARE,
    ) -> None:
        self._given = {"k": k, "temperature": temperature, "shrinkage": shrinkage}
        for setting, value in self._given.items():
            _check(setting, value)
        if targets not in get_args(Targets):
            raise ConfigError(
                f"router 'neighbours' has no targets {targets!r}; "
                f"{suggest(str(targets), get_args(Targets))}"
            )
        self._encoder = encoder
        self._features = Features(encoder, lexical_share)
        self._targets: Targets = targets
        self._fitted: _Fitted | None = None

    def fit(self, table: OutcomeTable) -> Self:
        """Take in recorded outcomes, all rows of the table, and choose what was left open.

        Raises:
            ConfigError: Nothing is known of an expert.
        """
        score = table.score.astype(np.float64)
        if self._targets == "successes":
            sums = np.nansum(score, axis=1, keepdims=True)
            score = np.divide(score, sums, out=np.full_like(score, np.nan), where=sums > 0)
        # By their ids: the order of the rows must not matter, not even where cosines are equal.
        by_id = sorted(range(len(score)), key=lambda row: table.queries[row].id)
        table = replace(table, score=score.astype(np.float32)).rows(by_id)
        known = table.rows(np.asarray((~np.isnan(table.score)).any(axis=1)))
        for name, column in zip(known.names, known.score.T, strict=True):
            if np.isnan(column).all():
                raise ConfigError(
                    f"router 'neighbours': no outcome of {name!r} to learn from; leave it out"
                )
        prompts = [query.prompt for query in known.queries]
        features = Features(self._encoder, self._features.lexical_share).fit(prompts)
        embeddings = features.encode(prompts)
        prior = known.macro_means().astype(np.float32)
        kernel = choose_kernel(
            embeddings,
            known.score,
            prior,
            known.category_codes,
            known.folds(salt="neighbours"),
            self._grid(),
        )
        ids = tuple(query.id for query in known.queries)
        self._features = features
        self._fitted = _Fitted(
            known.names, ids, tuple(prompts), embeddings, known.score, prior, kernel, self._targets
        )
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in use; those left open are known once it is fitted."""
        chosen = self._given if self._fitted is None else asdict(self._fitted.kernel)
        share = self._features.lexical_share
        return {**chosen, "targets": self._targets, "lexical_share": share}

    def annotate(self, query: Query) -> None:
        """None: the query's text is enough."""

    def score(self, queries: Sequence[Query], annotations: Sequence[Annotation | None]) -> Scores:
        """See `Router.score`.

        Raises:
            RoutingError: It is not fitted.
        """
        if (fitted := self._fitted) is None:
            raise RoutingError("router 'neighbours' is not fitted; fit it on recorded outcomes")
        embedded = self._features.encode([query.text for query in queries])
        k = min(fitted.kernel.k + SPARE, fitted.index.size)
        similarity, ids = fitted.index.top_k(embedded, k)
        quality = [
            kernel_means(similarity[rows], fitted.targets[ids[rows]], fitted.prior, fitted.kernel)
            for rows in batches(np.arange(len(queries)), k, len(fitted.experts))
        ]

        def explain(query: int, expert: int) -> Evidence:
            return fitted.explain(similarity[query], ids[query], expert)

        return Scores(fitted.experts, np.clip(np.concatenate(quality), 0, 1), explain)

    def save(self, folder: Path) -> None:
        """Write what it is and what it has learned; the encoder is not part of it.

        Raises:
            ConfigError: It is not fitted.
        """
        if (fitted := self._fitted) is None:
            raise ConfigError("router 'neighbours' is not fitted; fit it before it is saved")
        meta = {
            "given": self._given,
            "targets": self._targets,
            "lexical_share": self._features.lexical_share,
            "kernel": asdict(fitted.kernel),
            "experts": fitted.experts,
            "ids": fitted.ids,
            "prompts": fitted.prompts,
        }
        arrays = {"embeddings": fitted.embeddings, "targets": fitted.targets, "prior": fitted.prior}
        # An old router must not be read with the new one's words, should this end half way.
        discard_artefact(folder)
        self._features.save(folder)
        save_artefact(folder, self.name, meta, arrays)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Self:
        """What `save` wrote; `encoder` must embed as the one that it was fitted with.

        Raises:
            ConfigError: There is none, it is not whole, or the encoder is another one.
        """
        meta, arrays = load_artefact(folder, cls.name)
        embeddings, share = arrays["embeddings"], meta["lexical_share"]
        router = cls(encoder, **meta["given"], targets=meta["targets"], lexical_share=share)
        router._features = Features.load(folder, encoder, share)
        anew = router._features.encode(meta["prompts"][:1])
        if anew.shape[1] != embeddings.shape[1] or anew[0] @ embeddings[0] < SAME:
            raise ConfigError(
                f"{folder}: was fitted with another encoder; name that one, or fit it again"
            )
        router._fitted = _Fitted(
            tuple(meta["experts"]),
            tuple(meta["ids"]),
            tuple(meta["prompts"]),
            embeddings,
            arrays["targets"],
            arrays["prior"],
            Kernel(**meta["kernel"]),
            meta["targets"],
        )
        return router

    def _grid(self) -> Grid:
        given: dict[str, Any] = {
            f"{name}s": (value,) for name, value in self._given.items() if value is not None
        }
        return Grid(**given)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """r recorded queries, and how m experts did on them."""

    experts: tuple[str, ...]
    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    embeddings: Float32Array
    """[r, d]."""
    targets: Float32Array
    """[r, m]; NaN: unknown."""
    prior: Float32Array
    """[m], each expert's mean."""
    kernel: Kernel
    kind: Targets

    @cached_property
    def index(self) -> FlatIndex:
        """Of the embeddings."""
        return FlatIndex(self.embeddings)

    def explain(self, similarity: Float32Array, ids: Int64Array, expert: int) -> Evidence:
        """Why an expert got its score, by the nearest that count for which it is known."""
        n = int(n_counting(similarity[None], self.kernel.k)[0])
        known = [
            (float(cosine), int(i))
            for cosine, i in zip(similarity[:n], ids[:n], strict=True)
            if not np.isnan(self.targets[i, expert])
        ]
        if not known:
            name, mean = self.experts[expert], self.prior[expert]
            return Evidence(
                f"none of {n} neighbours tells of {name!r}; its overall mean {mean:.2f}"
            )
        shown = [
            {
                "id": self.ids[i],
                "prompt": _shortened(self.prompts[i], 200),
                "similarity": round(cosine, 4),
                "target": float(self.targets[i, expert]),
            }
            for cosine, i in known[:SHOWN]
        ]
        cosine, i = known[0]
        return Evidence(
            f"{_DID[self.kind].format(self.targets[i, expert])} on the nearest recorded query "
            f"{_shortened(self.prompts[i], 60)!r}, cosine {cosine:.2f}, of {n} that count",
            {"neighbours": shown, "kernel": asdict(self.kernel)},
        )


def _check(setting: str, value: float | None) -> None:
    kind, types, least = _RANGES[setting]
    if value is not None and not (type(value) in types and least <= value < math.inf):
        raise ConfigError(
            f"router 'neighbours': {setting!r} is {value!r}; give {kind} from {least}, or "
            "leave it out"
        )


def _shortened(text: str, width: int) -> str:
    """One line of at most so many characters; not by words, which not all languages part."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
