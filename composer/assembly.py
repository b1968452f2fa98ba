"""experts.yaml -> a Composer: the one place that knows all routers, aggregators and backends."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from composer.aggregators import make_aggregator
from composer.backends import backend_entry
from composer.backends.sources import cache_dir, package_path
from composer.composed import Composed
from composer.errors import ConfigError
from composer.experts import (
    ChooseRule,
    Composition,
    Expert,
    Registry,
    RouterConfig,
    load_experts,
    unset_secrets,
)
from composer.orchestrator import Composer
from composer.pool.pool import Pool
from composer.protocols import Encoder, Router
from composer.suggest import unknown_name
from composer.widened import WidenedRouter
from routers import load_router, make_router


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


def composition_warnings(registry: Registry) -> list[str]:
    """What may surprise about compositions that can work, a line each; nothing is loaded.

    Raises:
        ConfigError: A composition cannot work.
    """
    encoder = default_encoder(cache_dir())
    warnings: list[str] = []
    for name, composition in registry.compositions.items():
        router = _compose(name, composition, registry, encoder).router
        if isinstance(router, WidenedRouter):
            warnings.append(
                f"{registry.path}: composition {name!r}: the router from "
                f"{composition.router.from_!r} was not fitted on {list(router.unknown)}, which are "
                "asked only where others fail; fit it on their outcomes as well"
            )
    return warnings


def default_encoder(cache: Path) -> Encoder:
    """The sentence encoder of the starter pool, its embeddings kept on disk."""
    from routers.encoder import CachedEncoder, SentenceEncoder

    return CachedEncoder(SentenceEncoder(hashes=cache / "embeddings"), cache / "embeddings")


def _compose(name: str, composition: Composition, registry: Registry, encoder: Encoder) -> Composed:
    try:
        router = _make_router(composition.router, registry, encoder)
        aggregator = make_aggregator(
            composition.aggregator.name,
            composition.aggregator.settings,
            folder=registry.path.parent,
        )
        what = f"the {aggregator.name} aggregator"
        _check_needs(what, aggregator.needs, registry.routed.values())
        aggregator.check(registry.experts, composition.choose.k)
    except ConfigError as exc:
        raise ConfigError(f"composition {name!r}: {exc}") from None
    return Composed(name, router, composition.choose, aggregator)


def _make_router(config: RouterConfig, registry: Registry, encoder: Encoder) -> Router:
    if config.name is not None:
        return make_router(config.name, registry.routed, config.settings, encoder=encoder)
    what = f"router from {config.from_!r}"
    for setting in config.settings:
        raise ConfigError(f"{what}: its settings were saved with it; remove {setting!r}")
    source = str(config.from_)
    is_packaged = source.startswith("package:")
    folder = package_path(source) if is_packaged else registry.path.parent / source
    router = load_router(folder, encoder=encoder)
    known = router.experts
    if strangers := [name for name in known if name not in registry.experts]:
        raise ConfigError(
            f"{what}: was fitted on {strangers}, which are none of the experts "
            f"{list(registry.experts)}; fit it on outcomes of these, or add those"
        )
    asked = router.settings.get("annotator")
    if asked is not None and asked not in registry.experts:
        raise ConfigError(f"{what}: {unknown_name('expert', asked, registry.experts)}")
    if "likelihoods" in router.needs:
        _check_needs(what, {"continuation"}, [registry.experts[name] for name in known])
    unknown = [name for name in registry.routed if name not in known]
    return WidenedRouter(router, unknown) if unknown else router


def _check_needs(what: str, needs: Collection[str], experts: Iterable[Expert]) -> None:
    """Refuse what asks of engines that which some of them cannot give."""
    for expert in experts:
        able = backend_entry(expert.engine).capabilities
        for need in sorted(needs):
            if not getattr(able, need):
                raise ConfigError(
                    f"{what} needs {need}, which {expert.name!r} ({expert.engine}) cannot give"
                )
