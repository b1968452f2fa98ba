"""What a skill router has learned: which skills there are, and every expert's profile of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from composer.types import Evidence
from routers.skill.annotator import skills_failure
from routers.skill.profiles import (
    Mode,
    Profiles,
    add_up,
    competency,
    make_profiles,
    suitability,
)
from routers.skill.space import SkillSpace, restore_space
from routers.skill.terms import Terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from composer.protocols import Encoder
    from composer.types import Float32Array
    from routers.learning import Arrays, Batch, Float64Array, Int64Array
    from routers.skill.profiles import Skilled

OVERALL = "overall competency"
SHOWN = 3
"""Skills named in the reason."""


@dataclass(frozen=True, eq=False)
class SkillModel:
    """Profiles of m experts over v skills and c categories."""

    settings: Mapping[str, Any]
    """Those of the learner, with the weights chosen."""
    experts: tuple[str, ...]
    space: SkillSpace
    profiles: Profiles
    categories: tuple[str, ...]
    category_profiles: Profiles
    overall: Float64Array
    """Each expert's mean, right less wrong [m]; NaN: unknown."""
    competency: Float64Array
    """Each expert's share of the pool's total [m], as it was when it was learned."""

    def predict(self, batch: Batch) -> Float32Array:
        """See `Model.predict`."""
        skilled = self._skilled(batch)
        if self._mode == "additive":
            weights = self.settings["local_weight"], self.settings["category_weight"]
            return self.terms(batch, skilled).known(*weights).astype(np.float32)
        local = add_up(self.profiles.sums, skilled.codes, skilled.weights)
        # Without skills the product has nothing to say: competency alone does.
        local[skilled.weights.sum(axis=1) == 0] = 1
        raw = suitability(local, self.competency, self._mode)
        return np.where(np.isnan(self.overall), np.nan, raw).astype(np.float32)

    def terms(self, batch: Batch, skilled: Skilled) -> Terms:
        """What the additive scores of a batch of these skills are made of."""
        codes = self._category_codes(batch)
        is_told = codes >= 0
        category = np.zeros((len(batch), len(self.experts)))
        category[is_told] = self._category_deviations[codes[is_told]]
        return Terms(
            np.tile(self.overall, (len(batch), 1)),
            add_up(self._deviations, skilled.codes, skilled.shares),
            category,
            is_told,
        )

    def why(self, batch: Batch, row: int, column: int) -> Evidence:
        """See `Model.why`; skills that a query has and the expert was not tried at count 0."""
        query = batch.rows(np.array([row]))
        if np.isnan(self.overall[column]):
            return Evidence(f"nothing is known of {self.experts[column]!r}")
        skilled = self._skilled(query)
        if self._mode == "additive":
            parts = self._parts(query, skilled, column)
            details: dict[str, Any] = {"parts": parts}
            reason = f"overall {parts[OVERALL]:+.2f}"
        else:
            parts = _amounts(self._names(skilled), self.profiles.sums[skilled.codes[0], column])
            share = float(self.competency[column])
            details = {"skills": parts, "local": sum(parts.values()), "competency": share}
            reason = f"competency {share:.3f}"
        skills = {name: amount for name, amount in parts.items() if name != OVERALL}
        most = sorted(skills, key=lambda name: -abs(skills[name]))[:SHOWN]
        said = ", ".join(f"{name!r} {skills[name]:+.3g}" for name in most)
        failure = skills_failure(query.annotations[0])
        said = f"{reason}; {said or 'no known skill'}"
        if failure is not None:
            return Evidence(f"{said}: {failure}", {**details, "failure": failure})
        return Evidence(said, details)

    def without(self, column: int) -> SkillModel:
        """See `Model.without`; the others' competency stays the share it was."""
        return replace(
            self,
            experts=tuple(e for i, e in enumerate(self.experts) if i != column),
            profiles=self.profiles.without(column),
            category_profiles=self.category_profiles.without(column),
            overall=np.delete(self.overall, column),
            competency=np.delete(self.competency, column),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """See `Model.state`."""
        space, arrays = self.space.state()
        meta = {
            "settings": dict(self.settings),
            "experts": list(self.experts),
            "categories": list(self.categories),
            "space": space,
        }
        return meta, {
            **arrays,
            "sums": self.profiles.sums,
            "counts": self.profiles.counts,
            "category_sums": self.category_profiles.sums,
            "category_counts": self.category_profiles.counts,
            "overall": self.overall,
            "competency": self.competency,
        }

    @classmethod
    def restore(cls, meta: Mapping[str, Any], arrays: Arrays, encoder: Encoder) -> Self:
        """The model of which `state` gave this.

        Raises:
            KeyError: It is no such state.
        """
        return cls(
            meta["settings"],
            tuple(meta["experts"]),
            restore_space(meta["space"], arrays, encoder),
            Profiles(arrays["sums"], arrays["counts"]),
            tuple(meta["categories"]),
            Profiles(arrays["category_sums"], arrays["category_counts"]),
            arrays["overall"],
            arrays["competency"],
        )

    @property
    def _mode(self) -> Mode:
        return self.settings["mode"]

    @cached_property
    def _deviations(self) -> Float64Array:
        return self.profiles.deviations(self.overall, self.settings["shrinkage"])

    @cached_property
    def _category_deviations(self) -> Float64Array:
        return self.category_profiles.deviations(self.overall, self.settings["shrinkage"])

    def _skilled(self, batch: Batch) -> Skilled:
        return self.space.skilled(batch, self.profiles.is_known)

    def _category_codes(self, batch: Batch) -> Int64Array:
        """Each query's category [n]; -1: not told, or nothing is known of it."""
        codes = category_codes(batch, self.categories)
        is_known = np.append(self.category_profiles.is_known, False)
        return np.where(is_known[codes], codes, -1)

    def _parts(self, query: Batch, skilled: Skilled, column: int) -> dict[str, float]:
        """The terms of one query's score of one expert; the score is their sum."""
        code = int(self._category_codes(query)[0])
        share = self.settings["category_weight"] if code >= 0 else 0.0
        weights = (1 - share) * self.settings["local_weight"] * skilled.shares[0]
        amounts = weights * self._deviations[skilled.codes[0], column]
        parts = {OVERALL: float(self.overall[column])}
        if code >= 0:
            of_category = float(share * self._category_deviations[code, column])
            parts[f"category: {self.categories[code]}"] = of_category
        for name, amount in _amounts(self._names(skilled), amounts).items():
            parts[name] = parts.get(name, 0.0) + amount
        return parts

    def _names(self, skilled: Skilled) -> list[str]:
        return [self.space.names[code] for code in skilled.codes[0].tolist()]


def category_codes(batch: Batch, categories: tuple[str, ...]) -> Int64Array:
    """Each query's category [n], as an index of `categories`; -1: not told, or none of them."""
    number = {name: code for code, name in enumerate(categories)}
    return np.array([number.get(name or "", -1) for name in batch.categories], np.int64)


def learn_model(
    settings: Mapping[str, Any],
    experts: tuple[str, ...],
    space: SkillSpace,
    categories: tuple[str, ...],
    skilled: Skilled,
    in_category: Skilled,
    score: Float32Array,
    prior: Float32Array,
) -> SkillModel:
    """Count outcomes into profiles.

    Args:
        settings: In use.
        experts: Names of m experts.
        space: Of v skills.
        categories: Names of c categories.
        skilled: Skills of n queries.
        in_category: Their categories, as skills.
        score: [n, m]; NaN: unknown.
        prior: Each expert's mean score [m]; NaN: unknown.
    """
    profiles = make_profiles(skilled, score, len(space.names))
    overall = 2 * prior.astype(np.float64) - 1
    return SkillModel(
        settings,
        experts,
        space,
        profiles,
        categories,
        make_profiles(in_category, score, len(categories)),
        overall,
        competency(profiles.sums, settings["mode"]),
    )


def _amounts(names: list[str], amounts: Float64Array) -> dict[str, float]:
    """What each skill adds; one that a query has twice adds both."""
    total: dict[str, float] = {}
    for name, amount in zip(names, amounts.tolist(), strict=True):
        total[name] = total.get(name, 0.0) + amount
    return total
