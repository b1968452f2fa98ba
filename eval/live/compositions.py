"""The compositions of a run: those asked for by name, and Self-MoA as many samples deep as they."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from composer.aggregators import make_aggregator
from composer.backends import backend_entry
from composer.composed import Composed
from composer.errors import ConfigError
from composer.experts import ChooseRule, Registry
from composer.orchestrator import Composer
from composer.suggest import unknown_name
from eval.replay.ladder import LADDER
from routers.baselines import FixedRouter

SELF_MOA = "self-moa"
"""The method's name in a run's rows."""


def find_compositions(composer: Composer, names: Sequence[str]) -> list[Composed]:
    """The compositions of some names, each once; an expert's name is that of the expert alone.

    Raises:
        ConfigError: There is none, or it is called as a row is that every run has.
    """
    found: list[Composed] = []
    for name in dict.fromkeys(names):
        if name in {*LADDER, SELF_MOA}:
            raise ConfigError(
                f"composition {name!r} is called as a row is that every run has; rename it"
            )
        if name in composer.compositions:
            found.append(composer.compositions[name])
        elif name in composer.registry.experts:
            found.append(_alone(composer.registry, name, name, "best", {}))
        else:
            known = [*composer.compositions, *composer.registry.experts]
            raise ConfigError(unknown_name("composition", name, known))
    return found


def self_moa(registry: Registry, expert: str, samples: int) -> Composed:
    """Self-MoA of one expert: what a composition has to beat that asks as many samples a query.

    Its name tells expert and samples, so that it is another composition where these are others.

    Raises:
        ConfigError: The samples do not fit into the expert's context.
    """
    can_sample = backend_entry(registry.experts[expert].engine).capabilities.n
    settings = {"by": expert, "n": samples, "separate": not can_sample}
    name = f"{SELF_MOA}-{expert}-{samples}"
    composed = _alone(registry, name, expert, SELF_MOA, settings)
    composed.aggregator.check(registry.experts, composed.rule.k)
    return composed


def with_compositions(composer: Composer, composed: Collection[Composed]) -> Composer:
    """A composer of these compositions on the other's pool, which is the other's to close."""
    return Composer(composer.registry, {each.name: each for each in composed}, pool=composer.pool)


def _alone(
    registry: Registry, name: str, expert: str, aggregator: str, settings: Mapping[str, object]
) -> Composed:
    router = FixedRouter(registry.experts, expert)
    return Composed(name, router, ChooseRule(), make_aggregator(aggregator, settings))
