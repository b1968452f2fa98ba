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
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from composer.errors import ConfigError
from routers.advantage import advantage_errors, macro_mean
from routers.calibration import logit, sigmoid
from routers.kernel import Kernel, batches, kernel_means
from routers.learning import Lesson, Training
from routers.neighbours.kernel_choice import SPARE, Grid, choose_kernel
from routers.neighbours.model import NeighboursModel, Targets
from routers.neighbours.nearest import Nearest, nearest_elsewhere, with_bonus
from routers.settings import check_choice, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import RouterNeed
    from composer.types import Float32Array, Query
    from routers.learning import Arrays

BONUSES = (0.0, 0.1, 0.3)


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
