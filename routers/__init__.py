"""Strategies that score experts for queries; each only scores, and none runs an expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.errors import ConfigError
from composer.suggest import suggest, unknown_name

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
    if name in FITTED:
        raise ConfigError(
            f"router {name!r} is fitted on recorded outcomes; choose from {[*ROUTERS]}"
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

    _check("fixed", settings, required=("expert",))
    return FixedRouter(experts, **settings)


def _random(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.baselines import RandomRouter

    _check("random", settings, optional=("seed",))
    return RandomRouter(experts, **settings)


def _retrieval(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.retrieval import RetrievalRouter

    _check("retrieval", settings, optional=("pilots", "pool"))
    return RetrievalRouter(experts, encoder, **settings)


def _round_robin(experts: Experts, settings: Settings, encoder: Encoder) -> Router:
    from routers.baselines import RoundRobinRouter

    _check("round_robin", settings)
    return RoundRobinRouter(experts)


ROUTERS: Mapping[str, Callable[..., Router]] = {
    "fixed": _fixed,
    "random": _random,
    "retrieval": _retrieval,
    "round_robin": _round_robin,
}
"""Each router's name and its factory, called with (experts, settings, encoder)."""


NEIGHBOURS = ("k", "temperature", "shrinkage", "targets", "lexical_share")


def _neighbours(settings: Settings, encoder: Encoder) -> FittedRouter:
    from routers.neighbours import NeighboursRouter

    _check("neighbours", settings, optional=NEIGHBOURS)
    return NeighboursRouter(encoder, **settings)


def _load_neighbours(folder: Path, encoder: Encoder) -> FittedRouter:
    from routers.neighbours import NeighboursRouter

    return NeighboursRouter.load(folder, encoder)


def _prior(settings: Settings, encoder: Encoder) -> FittedRouter:
    from routers.baselines import PriorRouter

    _check("prior", settings)
    return PriorRouter()


def _load_prior(folder: Path, encoder: Encoder) -> FittedRouter:
    from routers.baselines import PriorRouter

    return PriorRouter.load(folder)


FITTED: Mapping[str, Callable[[Settings, Encoder], FittedRouter]] = {
    "neighbours": _neighbours,
    "prior": _prior,
}
"""Routers that learn from recorded outcomes, and their factories."""
LOADERS: Mapping[str, Callable[[Path, Encoder], FittedRouter]] = {
    "neighbours": _load_neighbours,
    "prior": _load_prior,
}
"""The same routers, and what reads the folder that one was saved in."""


def _check(
    router: str,
    settings: Settings,
    *,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> None:
    allowed = required + optional
    for setting in settings:
        if setting not in allowed:
            remedy = suggest(setting, allowed) if allowed else "it takes none"
            raise ConfigError(f"router {router!r} has no setting {setting!r}; {remedy}")
    for setting in required:
        if setting not in settings:
            raise ConfigError(f"router {router!r} needs the setting {setting!r}; add it")
