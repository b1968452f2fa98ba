"""Strategies that score experts for queries; each only scores, and none runs an expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.errors import ConfigError
from composer.suggest import unknown_name
from routers.learners import LEARNERS, SHELL, make_learner
from routers.settings import check_settings

if TYPE_CHECKING:
    from composer.experts import Expert
    from composer.protocols import Encoder, FittedRouter, Router

    Experts = Mapping[str, Expert]
    Settings = Mapping[str, Any]


def make_router(name: str, experts: Experts, settings: Settings, *, encoder: Encoder) -> Router:
    """Make the router that experts.yaml names; nothing is loaded or embedded yet.

    Args:
        name: A key of `ROUTERS`.
        experts: The experts to score, by name; their order is that of the columns of the scores.
        settings: The router's own settings, as its class documents them.
        encoder: What routers embed texts with; untouched by routers that need no embeddings.

    Raises:
        ConfigError: No router has the name, there are no experts, or a setting is unknown,
            missing or wrong.
    """
    if name in FITTED and name not in ROUTERS:
        raise ConfigError(
            f"router {name!r} is fitted on recorded outcomes; fit and save one (composer fit), "
            f"and name its folder by 'from', or choose from {[*ROUTERS]}"
        )
    if name not in ROUTERS:
        raise ConfigError(unknown_name("router", name, ROUTERS))
    if not experts:
        raise ConfigError(f"router {name!r} has no experts to score; name at least one expert")
    return ROUTERS[name](experts, settings, encoder)


def make_fitted_router(name: str, settings: Settings, *, encoder: Encoder) -> FittedRouter:
    """Make a router that is to be fitted on recorded outcomes.

    Args:
        name: A key of `FITTED`.
        settings: The router's own settings, as its class documents them.
        encoder: What it embeds texts with.

    Raises:
        ConfigError: No such router has the name, or a setting is unknown or wrong.
    """
    if name not in FITTED:
        raise ConfigError(unknown_name("router that is fitted", name, FITTED))
    return FITTED[name](settings, encoder)


def load_router(folder: Path, *, encoder: Encoder) -> FittedRouter:
    """The fitted router that was saved there, whichever it is.

    Args:
        folder: What its `save` was given.
        encoder: What it was fitted with; untouched by routers that need no embeddings.

    Raises:
        ConfigError: There is none, it is not whole, a newer program saved it, no such router is
            known, or the encoder is another one.
    """
    from routers.artefact import saved_kind

    kind = saved_kind(folder)
    if kind not in LOADERS:
        raise ConfigError(f"{folder}: {unknown_name('saved router', kind, LOADERS)}")
    return LOADERS[kind](folder, encoder)


def _fixed(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.baselines import FixedRouter

    check_settings("fixed", settings, required=("expert",))
    return FixedRouter(experts, **settings)


def _random(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.baselines import RandomRouter

    check_settings("random", settings, optional=("seed",))
    return RandomRouter(experts, **settings)


def _descriptions(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.description.router import DescriptionRouter

    check_settings("description", settings, optional=("annotator", "alpha"))
    return DescriptionRouter(experts, encoder, **settings)


def _retrieval(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.retrieval.examples import RetrievalRouter

    check_settings("retrieval", settings, optional=("pilots", "pool"))
    return RetrievalRouter(experts, encoder, **settings)


def _round_robin(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.baselines import RoundRobinRouter

    check_settings("round_robin", settings)
    return RoundRobinRouter(experts)


ROUTERS: Mapping[str, Callable[..., Router]] = {
    "description": _descriptions,
    "fixed": _fixed,
    "random": _random,
    "retrieval": _retrieval,
    "round_robin": _round_robin,
}
"""Each router's name and its factory, called with (experts, settings, encoder)."""


def _prior(settings: Settings, encoder: Encoder) -> FittedRouter:
    from routers.baselines import PriorRouter

    check_settings("prior", settings)
    return PriorRouter()


def _load_prior(folder: Path, encoder: Encoder) -> FittedRouter:
    from routers.baselines import PriorRouter

    return PriorRouter.load(folder)


def _outcome_router(name: str) -> Callable[[Settings, Encoder], FittedRouter]:
    def make(settings: Settings, encoder: Encoder) -> FittedRouter:
        from routers.fitted import OutcomeRouter

        own = {key: value for key, value in settings.items() if key not in SHELL}
        shell = {key: value for key, value in settings.items() if key in SHELL}
        return OutcomeRouter(make_learner(name, own, encoder=encoder), encoder, **shell)

    return make


def _outcome_loader(name: str) -> Callable[[Path, Encoder], FittedRouter]:
    def load(folder: Path, encoder: Encoder) -> FittedRouter:
        from routers.loaded import load_outcome_router

        return load_outcome_router(
            folder, name, lambda given: make_learner(name, given, encoder=encoder), encoder
        )

    return load


def _load_mixture(folder: Path, encoder: Encoder) -> FittedRouter:
    from routers.thoughts.mixture import load_mixture

    return load_mixture(folder, encoder)


FITTED: Mapping[str, Callable[[Settings, Encoder], FittedRouter]] = {
    "prior": _prior,
    **{name: _outcome_router(name) for name in LEARNERS},
}
"""Routers that learn from recorded outcomes, and their factories."""
LOADERS: Mapping[str, Callable[[Path, Encoder], FittedRouter]] = {
    "prior": _load_prior,
    "mixture": _load_mixture,
    **{name: _outcome_loader(name) for name in LEARNERS},
}
"""The same routers, that of a group, and what reads the folder that one was saved in."""
