"""experts.yaml -> a Composer: the one place that knows all routers, aggregators and backends."""

from __future__ import annotations

from pathlib import Path

from composer.aggregators import make_aggregator
from composer.backends import backend_entry
from composer.backends.sources import cache_dir
from composer.errors import ConfigError
from composer.experts import ChooseRule, Composition, Registry, load_experts, unset_secrets
from composer.orchestrator import Composed, Composer
from composer.pool.pool import Pool
from composer.protocols import Aggregator, Encoder
from routers import make_router


def assemble(path: str | Path, *, cache: Path | None = None) -> Composer:
    """The composer that an experts.yaml describes. See `Composer.from_yaml`."""
    registry = load_experts(path)
    if unset := unset_secrets(registry):
        raise ConfigError(f"{registry.path}: {unset[0]}")
    return compose(registry, cache=cache)


def compose(
    registry: Registry, *, cache: Path | None = None, encoder: Encoder | None = None
) -> Composer:
    """The composer of a registry that has been read.

    Args:
        registry: Experts, compositions and the pool's settings.
        cache: Where models, figures and embeddings are kept; None: the user's cache.
        encoder: What routers embed texts with; None: the default one, loaded when first needed.

    Raises:
        ConfigError: A composition names what does not exist, or cannot work.
    """
    folder = cache if cache is not None else cache_dir()
    encoder = encoder if encoder is not None else default_encoder(folder)
    compositions = {
        name: _compose(name, composition, registry, encoder)
        for name, composition in registry.compositions.items()
    }

    def direct(expert: str) -> Composed:
        router = make_router("fixed", registry.experts, {"expert": expert}, encoder=encoder)
        return Composed(expert, router, ChooseRule(), make_aggregator("best", {}))

    return Composer(registry, compositions, pool=Pool(registry, cache=folder), direct=direct)


def composition_problems(registry: Registry) -> list[str]:
    """What is wrong with the compositions, a line each; nothing is loaded."""
    problems: list[str] = []
    for name, composition in registry.compositions.items():
        try:
            _compose(name, composition, registry, default_encoder(cache_dir()))
        except ConfigError as exc:
            problems.append(f"{registry.path}: {exc}")
    return problems


def default_encoder(cache: Path) -> Encoder:
    """The sentence encoder of the starter pool, its embeddings kept on disk."""
    from routers.encoder import CachedEncoder, SentenceEncoder

    return CachedEncoder(SentenceEncoder(hashes=cache / "embeddings"), cache / "embeddings")


def _compose(name: str, composition: Composition, registry: Registry, encoder: Encoder) -> Composed:
    try:
        router_config = composition.router
        if router_config.name is None:
            raise ConfigError(
                f"router from {router_config.from_!r}: saved routers cannot be read yet; "
                "give the router's name"
            )
        router = make_router(
            router_config.name, registry.experts, router_config.settings, encoder=encoder
        )
        aggregator = make_aggregator(composition.aggregator.name, composition.aggregator.settings)
        _check_needs(aggregator, registry)
    except ConfigError as exc:
        raise ConfigError(f"composition {name!r}: {exc}") from None
    return Composed(name, router, composition.choose, aggregator)


def _check_needs(aggregator: Aggregator, registry: Registry) -> None:
    """Refuse an aggregator that asks of engines what some of them cannot give."""
    for expert in registry.experts.values():
        able = backend_entry(expert.engine).capabilities
        for need in sorted(aggregator.needs):
            if not getattr(able, need):
                raise ConfigError(
                    f"the {aggregator.name} aggregator needs {need}, which {expert.name!r} "
                    f"({expert.engine}) cannot give"
                )
