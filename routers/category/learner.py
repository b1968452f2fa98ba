"""Routes by category: a classifier tells what a query is about, a table who is good at that.

    raw score of expert e = sum_c p(c | query) * mean score of e in category c, shrunk

A query whose category is known has that one alone, and one that the classifier is unsure of is
scored by the experts' overall means, so that it goes to the best generalist. With a budget of
parameters, each category is mapped to one of the experts that fit (`routers.category.mapping`).

Source: Composition of Experts (arXiv 2412.01868): a router in two steps, first the category, then
the category's expert, with a fall-back on a generalist where the first is unsure.

Deviations:
- The category is not decided: experts are scored by the sum over all categories, weighted by their
  probabilities (`assign: soft`), since a query between two of them is better not sent by one alone.
  `hard` is the paper's.
- Where the paper counts wins against a reference model, the recorded score is taken as it is: no
  verdict is made of it, so there are no ties to break.
- A mean of few outcomes is shrunk, see `routers.category.means`.
- With budgets an expert that nothing is mapped to has no score. With the active one, neither has
  an expert larger than the one that the query's likeliest category is mapped to; so whichever is
  chosen, the mean stays within the budget where the categories come as often as in the training,
  and a known category's query goes to the mapped expert, who is the best of those left. Uncertain
  queries are one category more.
- Where fewer than two categories are recorded, clusters of the embeddings take their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from composer.errors import ConfigError
from composer.protocols import RouterNeed
from routers.category.choice import Chosen, choose, hold_out
from routers.category.classifier import ClassifierKind, fit_classifier
from routers.category.labels import CategoryKind, Labels, make_labels
from routers.category.means import shrunk_means, tally
from routers.category.model import BUDGETS, CategoryModel, restore_model
from routers.category.reading import NOT_KNOWN, Assignment, Uncertainty, centres_of
from routers.learning import Lesson
from routers.settings import check_choice, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Query
    from routers.learning import Arrays, Model, Training

    Float64Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryLearner:
    """Learns to tell categories, and how well each expert does in them.

    Args:
        classifier: Multinomial logistic regression on the embeddings, or a vote of the nearest.
        temperature: Of the classifier's probabilities; None: chosen.
        assign: Categories count by their probabilities, or the likeliest alone.
        categories: The recorded ones, or clusters; None: clusters where fewer than two are
            recorded.
        n_clusters: Most clusters to make.
        shrinkage: Of the experts' means, in rows; None: chosen.
        uncertainty: What the confidence in a query's categories is: the largest probability,
            1 - entropy as a share of the largest possible, or the cosine to the nearest category's
            mean direction. All are in [0, 1].
        threshold: A query of less confidence is scored by the overall means; None: chosen, 0:
            none is.
        resident_params_b: Billions of parameters that all experts in use may have together.
        active_params_b: Billions of parameters that may answer a query, in the mean.

    Raises:
        ConfigError: A setting is none of its choices, or out of its range.
    """

    name = "category"
    needs = frozenset[RouterNeed]()

    classifier: ClassifierKind = "logistic"
    temperature: float | None = None
    assign: Assignment = "soft"
    categories: CategoryKind | None = None
    n_clusters: int = 16
    shrinkage: float | None = None
    uncertainty: Uncertainty = "probability"
    threshold: float | None = None
    resident_params_b: float | None = None
    active_params_b: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "classifier", self.classifier, get_args(ClassifierKind))
        check_choice(self.name, "assign", self.assign, get_args(Assignment))
        if self.categories is not None:
            check_choice(self.name, "categories", self.categories, get_args(CategoryKind))
        check_number(self.name, "temperature", self.temperature, least=0.01, optional=True)
        check_number(self.name, "n_clusters", self.n_clusters, least=2, whole=True)
        check_number(self.name, "shrinkage", self.shrinkage, optional=True)
        check_choice(self.name, "uncertainty", self.uncertainty, get_args(Uncertainty))
        check_number(self.name, "threshold", self.threshold, most=1, optional=True)
        for setting in BUDGETS:
            check_number(self.name, setting, getattr(self, setting), optional=True)

    @property
    def given(self) -> dict[str, Any]:
        """See `Learner.given`."""
        return asdict(self)

    def fit(self, training: Training) -> Lesson:
        """See `Learner.fit`.

        Clusters, the mapping within a budget and the settings left open are of all rows; what
        predicts a held-out row has otherwise seen nothing of its fold.

        Raises:
            ConfigError: The recorded categories are asked for and there are fewer than two; no
                mapping is within the budgets; or an expert's size is not known and there is one.
        """
        from threadpoolctl import (  # pyright: ignore[reportMissingTypeStubs]
            threadpool_limits,
        )

        # BLAS waits by spinning, which starves whatever runs beside it.
        with threadpool_limits(1):
            labels = make_labels(training, self.categories, self.n_clusters)
            held = hold_out(training, labels, self.classifier)
            chosen = choose(
                held,
                assign=self.assign,
                uncertainty=self.uncertainty,
                temperature=self.temperature,
                shrinkage=self.shrinkage,
                threshold=self.threshold,
            )
            hidden, known = (
                held.reading(chosen.temperature, self.uncertainty, chosen.threshold, told=told)
                for told in (False, True)
            )
            model = self._model(training, labels, chosen, float(hidden.is_certain.mean())).mapped()
            raw, raw_known = (
                model.within_budgets(held.raw(reading, self.assign, chosen.shrinkage), reading)
                for reading in (hidden, known)
            )
        return Lesson(model, raw, raw_known)

    def restore(self, meta: Mapping[str, Any], arrays: Arrays) -> Model:
        """See `Learner.restore`."""
        return restore_model(meta, arrays)

    def annotate(self, query: Query, experts: Sequence[str]) -> None:
        """None: the query's text is enough."""

    def _model(
        self, training: Training, labels: Labels, chosen: Chosen, certain: float
    ) -> CategoryModel:
        """Learned from all rows, before any mapping; `certain`: the share of certain queries."""
        is_labelled = labels.codes != NOT_KNOWN
        codes, s = labels.codes[is_labelled], len(labels.names)
        embeddings = training.batch.embeddings[is_labelled]
        tallied = tally(training, labels.codes, s)
        settings = {
            **self.given,
            "categories": labels.kind,
            **asdict(chosen),
        }
        return CategoryModel(
            training.names,
            labels.names,
            fit_classifier(self.classifier, embeddings, codes, s),
            centres_of(embeddings, codes, s),
            shrunk_means(tallied, chosen.shrinkage),
            tallied.overall,
            np.append(certain * np.bincount(codes, minlength=s) / len(codes), 1 - certain),
            self._params_b(training),
            settings,
        )

    def _params_b(self, training: Training) -> Float64Array:
        """Each expert's billions of parameters [m]; NaN: unknown."""
        params_b = np.array(
            [np.nan if e.params_b is None else e.params_b for e in training.experts]
        )
        unknown = [e.name for e in training.experts if e.params_b is None]
        if unknown and (self.resident_params_b is not None or self.active_params_b is not None):
            raise ConfigError(
                f"router 'category': a budget needs the size of {unknown}; record their params_b, "
                f"or leave {list(BUDGETS)} out"
            )
        return params_b
