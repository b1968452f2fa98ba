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
- The raw score is the quality's logit.
- Where the query's category is known, recorded queries of that category are nearer to it, by a
  `category_bonus` on the cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from composer.errors import ConfigError
from composer.types import Evidence
from routers.advantage import advantage_errors, macro_mean
from routers.calibration import logit, sigmoid
from routers.index import FlatIndex
from routers.kernel import Kernel, batches, kernel_means, n_counting
from routers.learning import Batch, Lesson, Training
from routers.neighbours.kernel_choice import SPARE, Grid, choose_kernel
from routers.neighbours.nearest import Nearest, nearest_elsewhere, with_bonus
from routers.settings import check_choice, check_number
from routers.shortened import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.index import Int64Array
    from routers.learning import Arrays

Targets = Literal["scores", "successes"]
BONUSES = (0.0, 0.1, 0.3)
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


class NeighboursLearner:
    """Learns how experts did on recorded queries.

    Args:
        k: Neighbours that count; None: chosen on the training rows, as are the next three.
        temperature: Of the cosine.
        shrinkage: Weight of an expert's overall mean, in neighbours as near as the nearest.
        category_bonus: What a recorded query of the same category has more cosine.
        targets: See the module.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "neighbours"
    needs: frozenset[RouterNeed] = frozenset()

    def __init__(
        self,
        *,
        k: int | None = None,
        temperature: float | None = None,
        shrinkage: float | None = None,
        category_bonus: float | None = None,
        targets: Targets = "scores",
    ) -> None:
        check_number(self.name, "k", k, least=1, whole=True, optional=True)
        check_number(self.name, "temperature", temperature, least=1e-6, optional=True)
        check_number(self.name, "shrinkage", shrinkage, optional=True)
        check_number(self.name, "category_bonus", category_bonus, optional=True)
        check_choice(self.name, "targets", targets, get_args(Targets))
        self._kernel = {"k": k, "temperature": temperature, "shrinkage": shrinkage}
        self._bonus = category_bonus
        self._targets: Targets = targets

    @property
    def given(self) -> dict[str, Any]:
        """See `Learner.given`."""
        return {**self._kernel, "category_bonus": self._bonus, "targets": self._targets}

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`."""
        score = training.score
        if self._targets == "successes":
            sums = np.nansum(score, axis=1, keepdims=True)
            score = np.divide(score, sums, out=np.full_like(score, np.nan), where=sums > 0)
            training = replace(training, score=score)
            for name, column in zip(training.names, score.T, strict=True):
                if np.isnan(column).all():
                    raise ConfigError(
                        f"router {self.name!r}: {name!r} was asked nothing that any expert got "
                        "right, so it has no share of successes; leave it out, or give targets: "
                        "scores"
                    )
        given: dict[str, Any] = {
            f"{name}s": (value,) for name, value in self._kernel.items() if value is not None
        }
        grid = Grid(**given)
        codes, is_known = training.category_codes, _is_known(training)
        nearest, of_category = (
            nearest_elsewhere(
                training.batch.embeddings, training.folds, groups, is_known, max(grid.ks) + SPARE
            )
            for groups in (np.zeros_like(codes), codes)
        )
        kernel = choose_kernel(nearest, training.score, training.prior, codes, grid)
        # By a bonus of 0, a category that is known changes nothing.
        hidden = _held_out(training, nearest, kernel)
        told = {0.0: hidden}
        bonuses = BONUSES if self._bonus is None else (self._bonus,)
        for bonus in bonuses:
            if bonus:
                nearer = with_bonus(nearest, of_category, codes, bonus)
                told[bonus] = _held_out(training, nearer, kernel)
        bonus = min(bonuses, key=lambda each: _error(told[each], training))
        return Lesson(self._model(training, kernel=kernel, bonus=bonus), hidden, told[bonus])

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> NeighboursModel:
        """See `Learner.restore`."""
        return NeighboursModel(
            tuple(meta["experts"]),
            tuple(meta["texts"]),
            arrays["embeddings"],
            arrays["targets"],
            arrays["prior"],
            Kernel(**meta["kernel"]),
            meta["kind"],
            tuple(meta["categories"]),
            arrays["codes"],
            meta["category_bonus"],
        )

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""

    def _model(self, training: Training, *, kernel: Kernel, bonus: float) -> NeighboursModel:
        is_known = _is_known(training)
        training = training.rows(is_known) if is_known.any() else training
        batch = training.batch
        return NeighboursModel(
            training.names,
            batch.texts,
            batch.embeddings,
            training.score,
            training.prior,
            kernel,
            self._targets,
            training.categories,
            training.category_codes,
            bonus,
        )


def _is_known(training: Training) -> NDArray[np.bool_]:
    """Whether something is known of each row [n]."""
    return np.asarray((~np.isnan(training.score)).any(axis=1))


def _held_out(training: Training, nearest: Nearest, kernel: Kernel) -> Float32Array:
    """The raw scores of each row by its nearest in other folds, and by the others' prior."""
    held_out = np.full(training.score.shape, np.nan, np.float32)
    k = kernel.k + SPARE
    for fold in np.unique(training.folds):
        is_held = training.folds == fold
        if is_held.all():
            break
        prior = training.rows(~is_held).prior
        similarity, ids = nearest.similarity[:, :k], nearest.ids[:, :k]
        for rows in batches(np.flatnonzero(is_held), k, len(prior)):
            scores = training.score[ids[rows]]
            held_out[rows] = logit(kernel_means(similarity[rows], scores, prior, kernel))
    return held_out


def _error(raw: Float32Array, training: Training) -> float:
    predicted = sigmoid(raw.astype(np.float64)).astype(np.float32)
    return macro_mean(advantage_errors(predicted, training.score), training.category_codes)
