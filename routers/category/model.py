"""What the category router has learned: a query's categories, and how well experts do in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.types import Evidence
from routers.category.classifier import Classifier, restore_classifier, softmax
from routers.category.mapping import SLACK, CategoryMapping, restore_mapping, solve_mapping
from routers.category.reading import NOT_KNOWN, Reading, closeness_to, make_reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.types import Float32Array
    from routers.learning import Arrays, Batch, Model

    Float64Array = NDArray[np.float64]

BUDGETS = ("resident_params_b", "active_params_b")
SHOWN, LEAST_SHOWN = 3, 0.005
"""Categories in the evidence, the likeliest first, and the least probability of one."""
_OF_CLASSIFIER = "classifier_"
"""What the names of the classifier's arrays begin with."""


@dataclass(frozen=True, eq=False)
class CategoryModel:
    """See `Model`; of m experts, s categories, embeddings of d numbers."""

    experts: tuple[str, ...]
    categories: tuple[str, ...]
    classifier: Classifier
    centres: Float32Array
    """Mean directions of the categories [s, d]."""
    means: Float64Array
    """Each expert's in each category [s, m], shrunk."""
    overall: Float64Array
    """Each expert's mean [m]."""
    share: Float64Array
    """Of the queries that are in each category, and of uncertain ones, [s + 1]."""
    params_b: Float64Array
    """Each expert's billions of parameters [m]; NaN: unknown."""
    settings: Mapping[str, Any]
    """See `Model.settings`."""
    mapping: CategoryMapping | None = None
    """Of each category, and of uncertain queries, to its expert; None: there is no budget."""

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`; NaN as well for experts that the budgets leave out."""
        reading = self.read(batch)
        raw = reading.raw(self.settings["assign"], self.means, self.overall)
        return self.within_budgets(raw, reading)

    def read(self, batch: Batch) -> Reading:
        """What the queries are about."""
        is_recorded = self.settings["categories"] == "recorded"
        number = {name: code for code, name in enumerate(self.categories) if is_recorded}
        known = [number.get(name or "", NOT_KNOWN) for name in batch.categories]
        return make_reading(
            softmax(self.classifier.logits(batch.embeddings), self.settings["temperature"]),
            closeness_to(self.centres, batch.embeddings),
            np.array(known, np.int64),
            self.settings["uncertainty"],
            self.settings["threshold"],
        )

    def mapped(self) -> CategoryModel:
        """The model with the best mapping within its budgets, if it has any.

        Raises:
            ConfigError: No mapping is within them.
        """
        budgets = {name: self.settings[name] for name in BUDGETS}
        if all(budget is None for budget in budgets.values()):
            return self
        quality = np.vstack([self.means, self.overall])
        return replace(self, mapping=solve_mapping(quality, self.share, self.params_b, **budgets))

    def within_budgets(self, raw: Float32Array, reading: Reading) -> Float32Array:
        """The raw scores of n queries, [n, m], NaN where an expert is out of the budgets."""
        if self.mapping is None:
            return raw
        is_resident = np.isin(np.arange(len(self.experts)), self.mapping.residents)
        is_allowed = np.tile(is_resident, (len(raw), 1))
        if self.settings["active_params_b"] is not None:
            # Whichever of these is chosen, the mean stays within the budget; and the mapped expert
            # is the best of them, or the mapping would be another.
            mapped_to = np.array(self.mapping.experts)[reading.likeliest]
            is_allowed &= self.params_b <= self.params_b[mapped_to, None] * (1 + SLACK)
        return np.where(is_allowed, raw, np.float32(np.nan))

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`."""
        one = batch.rows(np.array([row], np.int64))
        reading, told = self.read(one), one.categories[0]
        p, confidence = reading.p[0], float(reading.confidence[0])
        mean, overall = self.means[:, column], float(self.overall[column])
        likeliest = [int(c) for c in np.argsort(-p, kind="stable")[:SHOWN] if p[c] > LEAST_SHOWN]
        shown = ", ".join(f"{self.categories[c]!r} {p[c]:.2f} x {mean[c]:.3f}" for c in likeliest)
        details: dict[str, Any] = {
            "categories": {
                self.categories[c]: {"p": round(float(p[c]), 4), "mean": round(float(mean[c]), 4)}
                for c in likeliest
            },
            "confidence": round(confidence, 4),
            "threshold": self.settings["threshold"],
            "parts": self._parts(reading, column),
        }
        reason = f"the text is of {shown}"
        if not reading.is_certain[0]:
            reason = f"its overall mean {overall:.3f}: too little confidence, {confidence:.2f}"
        is_recorded = self.settings["categories"] == "recorded"
        if is_recorded and told in self.categories:
            reason = f"the query is of {shown}"
        elif is_recorded and told:
            details["never_recorded"] = told
            reason = f"no outcome is recorded of {told!r}; {reason}"
        if self.mapping is not None:
            mapped_to = self.experts[self.mapping.experts[int(reading.likeliest[0])]]
            residents = [self.experts[c] for c in self.mapping.residents]
            details |= {"mapped_to": mapped_to, "residents": residents}
            reason = f"{reason}; within the budget {mapped_to!r} takes it"
        return Evidence(reason, details)

    def without(self, column: int) -> Model:
        """See `Model.without`; where there is a budget, what the expert leaves is given anew.

        Raises:
            ConfigError: No mapping of the others is within the budgets.
        """
        left = replace(
            self,
            experts=(*self.experts[:column], *self.experts[column + 1 :]),
            means=np.delete(self.means, column, axis=1),
            overall=np.delete(self.overall, column),
            params_b=np.delete(self.params_b, column),
        )
        return left.mapped()

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        meta = {
            "experts": list(self.experts),
            "categories": list(self.categories),
            "settings": dict(self.settings),
            "mapping": None if self.mapping is None else asdict(self.mapping),
        }
        arrays = {
            "centres": self.centres,
            "means": self.means,
            "overall": self.overall,
            "share": self.share,
            "params_b": self.params_b,
        }
        own = {f"{_OF_CLASSIFIER}{name}": a for name, a in self.classifier.arrays.items()}
        return meta, {**arrays, **own}

    def _parts(self, reading: Reading, column: int) -> dict[str, float]:
        """The terms of a raw score: the largest by name, and the sum of the others."""
        if not reading.is_certain[0]:
            return {"overall mean": float(self.overall[column])}
        weights = reading.weights(self.settings["assign"])[0]
        terms = weights * self.means[:, column]
        largest = [int(c) for c in np.argsort(-weights, kind="stable")[:SHOWN] if weights[c] > 0]
        parts = {self.categories[c]: float(terms[c]) for c in largest}
        others = float(np.delete(terms, largest).sum())
        return {**parts, "other categories": others} if others else parts


def restore_model(meta: Mapping[str, Any], arrays: Arrays) -> CategoryModel:
    """The model of which `CategoryModel.state` gave this.

    Raises:
        KeyError: It is no such state.
    """
    own = {
        name.removeprefix(_OF_CLASSIFIER): array
        for name, array in arrays.items()
        if name.startswith(_OF_CLASSIFIER)
    }
    settings, mapping = meta["settings"], meta["mapping"]
    return CategoryModel(
        tuple(meta["experts"]),
        tuple(meta["categories"]),
        restore_classifier(settings["classifier"], own),
        arrays["centres"],
        arrays["means"],
        arrays["overall"],
        arrays["share"],
        arrays["params_b"],
        settings,
        None if mapping is None else restore_mapping(mapping),
    )
