"""Which experts `composer latent` is about, and how they are to be fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from composer.errors import ConfigError
from composer.suggest import unknown_name

if TYPE_CHECKING:
    from pathlib import Path

    from composer.experts import Registry
    from composer.latent.fitting import KeepRouter
    from composer.latent.recipe import Recipe
    from composer.latent.routing import ThoughtRouter
    from composer.latent.settings import LatentSettings
    from composer.protocols import Encoder
    from composer.types import Member


ROUTER_KEYS = (
    *("router_hidden", "router_rate", "temperature"),
    *("entropy", "balance", "consistency", "choice"),
)
"""Settings that without a router nothing reads."""


def read_recipe(
    options: Mapping[str, Any], pairs: Mapping[str, Any]
) -> tuple[LatentSettings, Recipe]:
    """The settings and the recipe that options and KEY=VALUE pairs give.

    Raises:
        ConfigError: A key is unknown or given twice, or a value cannot be.
    """
    from pydantic import TypeAdapter, ValidationError

    from composer.latent.recipe import Recipe
    from composer.latent.settings import LatentSettings

    of_recipe = {field.name for field in fields(Recipe)}
    of_shape = set(LatentSettings.model_fields)
    for key in pairs:
        if key in options:
            raise ConfigError(f"{key!r} is given as an option and with --set; leave one")
        if key not in of_recipe | of_shape:
            raise ConfigError(unknown_name("setting", key, of_recipe | of_shape))
    given = {**options, **pairs}
    idle = [key for key in ROUTER_KEYS if key in given]
    if idle and not given.get("router"):
        raise ConfigError(f"{idle[0]!r} is of a router, and none is trained; give --router as well")
    if "start_steps" in given and given.get("starts", 1) == 1:
        raise ConfigError("'start_steps' is of several starts; give --starts as well")
    try:
        shape = LatentSettings(**{k: v for k, v in given.items() if k in of_shape})
        recipe = TypeAdapter(Recipe).validate_python(
            {k: v for k, v in given.items() if k in of_recipe}
        )
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = f"{wrong['loc'][0]!r}: " if wrong["loc"] else ""
        said = wrong["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}{said[:1].lower()}{said[1:]}") from exc
    return shape, recipe


def read_members(registry: Registry, names: str) -> list[Member]:
    """The experts of the group, as experts.yaml names their models.

    Raises:
        ConfigError: One is unknown or named twice, has no weights here, or there is only one.
    """
    from composer.types import Member

    members: list[Member] = []
    for name in [name.strip() for name in names.split(",") if name.strip()]:
        if name not in registry.experts:
            raise ConfigError(unknown_name("expert", name, registry.experts))
        if name in [member.expert for member in members]:
            raise ConfigError(f"--experts names {name!r} twice; name each once")
        spec = registry.engine_spec(name)
        if spec.engine != "vllm" or spec.source is None:
            raise ConfigError(
                f"expert {name!r} runs on {spec.engine!r}; only experts on 'vllm' have weights "
                "here to be read; name another"
            )
        expert = registry.experts[name]
        source = registry.experts[expert.base or name].source
        assert source is not None, "an engine has a source where its base has one"
        template = spec.chat_template
        members.append(Member(name, source, adapter=expert.adapter, chat_template=template))
    if len(members) < 2:
        raise ConfigError(f"--experts {names!r} is no group; name two experts or more: a,b")
    return members


def read_primaries(
    given: Sequence[str], members: Sequence[Member], shape: LatentSettings
) -> tuple[str, ...]:
    """Names of those that may write; none given: the first member.

    Raises:
        ConfigError: One is no member, or more are to take part than there are.
    """
    names = [member.expert for member in members]
    for name in given:
        if name not in names:
            raise ConfigError(f"--primary: {unknown_name('expert', name, names)}")
    if shape.active is not None and shape.active > len(names):
        raise ConfigError(f"'active' is {shape.active}, and the group has {len(names)} experts")
    return tuple(dict.fromkeys(given)) or (names[0],)


def resolve_member(registry: Registry, member: Member) -> Member:
    """The member with folders on this disk, fetched if need be.

    Raises:
        ConfigError: A model or an adapter is missing, or they do not go together.
    """
    from composer.backends.resolution import resolve_spec
    from composer.backends.sources import cache_dir

    spec = registry.engine_spec(member.expert)
    # Those of other experts on the same base need not be there.
    own = {name: source for name, source in spec.adapters.items() if name == member.expert}
    found = resolve_spec(replace(spec, adapters=own), models=cache_dir() / "models")
    return replace(member, model_path=found.model_path, adapter=found.adapters.get(member.expert))


def router_kept(
    folder: Path, experts: Iterable[str], recipe: Recipe
) -> tuple[Encoder | None, KeepRouter]:
    """What a group's router reads queries by, and what writes it into the group's folder.

    Args:
        folder: The group's.
        experts: Names, in the group's order.
        recipe: Without a router nothing is read and nothing written.
    """
    if not recipe.router:
        return None, lambda network, writers, k: None
    from composer.assembly import default_encoder
    from composer.backends.sources import cache_dir
    from routers.thoughts.mixture import MixtureRouter

    encoder, names = default_encoder(cache_dir()), tuple(experts)

    def keep(network: ThoughtRouter, writers: Sequence[int], k: int) -> None:
        MixtureRouter(network, names, writers, k, encoder).save(folder)

    return encoder, keep
