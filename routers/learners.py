"""The algorithms that learn from outcomes, by name: each is imported when it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from composer.errors import ConfigError
from composer.suggest import unknown_name
from routers.settings import check_settings

if TYPE_CHECKING:
    from composer.protocols import Encoder
    from routers.learning import Learner

    Settings = Mapping[str, Any]

LearnerT = TypeVar("LearnerT", bound="Learner")


def _category(settings: Settings, encoder: Encoder) -> Learner:
    from routers.category.learner import CategoryLearner

    return _make(CategoryLearner, settings)


def _clusters(settings: Settings, encoder: Encoder) -> Learner:
    from routers.clusters.learner import ClustersLearner

    return _make(ClustersLearner, settings)


def _description(settings: Settings, encoder: Encoder) -> Learner:
    from routers.description.learner import DescriptionLearner

    return _make(DescriptionLearner, settings, encoder=encoder)


def _learned(settings: Settings, encoder: Encoder) -> Learner:
    from routers.learned.learner import LearnedLearner

    return _make(LearnedLearner, settings)


def _likelihood(settings: Settings, encoder: Encoder) -> Learner:
    from routers.likelihood.learner import LikelihoodLearner

    return _make(LikelihoodLearner, settings)


def _neighbours(settings: Settings, encoder: Encoder) -> Learner:
    from routers.neighbours.learner import NeighboursLearner

    return _make(NeighboursLearner, settings)


def _pilots(settings: Settings, encoder: Encoder) -> Learner:
    from routers.retrieval.learner import PilotsLearner

    return _make(PilotsLearner, settings)


def _skill(settings: Settings, encoder: Encoder) -> Learner:
    from routers.skill.learner import SkillLearner

    return _make(SkillLearner, settings, encoder=encoder)


def _stacked(settings: Settings, encoder: Encoder) -> Learner:
    from routers.stacked.learner import StackedLearner

    names = settings.get("members", MEMBERS)
    _check_members(names)
    members = {name: make_learner(name, {}, encoder=encoder) for name in names}
    check_settings("stacked", settings, optional=("members", *SHELL))
    return StackedLearner(members=members)


def _thoughts(settings: Settings, encoder: Encoder) -> Learner:
    from routers.thoughts.learner import ThoughtsLearner

    return _make(ThoughtsLearner, settings)


def _check_members(names: object) -> None:
    can = [name for name in LEARNERS if name not in ("stacked", "likelihood", "description")]
    if not isinstance(names, list | tuple) or not names:
        raise ConfigError(f"router 'stacked' has the members {names!r}; give a list of {can}")
    for name in cast("Sequence[object]", names):
        if name not in can:
            raise ConfigError(unknown_name("member of router 'stacked'", str(name), can))


LEARNERS: Mapping[str, Callable[[Settings, Encoder], Learner]] = {
    "category": _category,
    "clusters": _clusters,
    "description": _description,
    "learned": _learned,
    "likelihood": _likelihood,
    "neighbours": _neighbours,
    "retrieval": _pilots,
    "skill": _skill,
    "stacked": _stacked,
    "thoughts": _thoughts,
}
"""Algorithms that learn from recorded outcomes, and their factories."""
MEMBERS = ("neighbours", "category", "learned")
"""What `stacked` combines unless it is told: each needs no more than the query's text."""
SHELL = ("lexical_share", "calibration")
"""Settings that every one of them takes beside its own, see `routers.fitted.OutcomeRouter`."""


def make_learner(name: str, settings: Settings, *, encoder: Encoder) -> Learner:
    """Make an algorithm of its own settings.

    Raises:
        ConfigError: There is none of the name, or a setting is unknown or wrong.
    """
    if name not in LEARNERS:
        raise ConfigError(unknown_name("router that learns", name, LEARNERS))
    for setting in SHELL:
        if setting in settings:
            raise ConfigError(f"router {name!r}: {setting!r} is no setting of the algorithm alone")
    return LEARNERS[name](settings, encoder)


def _make(kind: type[LearnerT], settings: Settings, **parts: Any) -> LearnerT:
    """A learner of its settings, which are the keywords that its class takes.

    Args:
        kind: The class.
        settings: As they were given.
        parts: What it takes beside settings: an encoder, members.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    keywords = tuple(name for name in inspect.signature(kind).parameters if name not in parts)
    check_settings(kind.name, settings, optional=(*keywords, *SHELL))
    return kind(**settings, **parts)
