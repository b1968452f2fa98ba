"""The methods of a replay, by the names that `--methods` takes.

random, best-single, ...        a rung of the ladder
fixed[expert=NAME]              one expert for all queries
neighbours                      a router: its first choice answers
neighbours[k=40]                the same with a setting of its own
vote-majority                   an aggregator, over the experts that do best on train
vote-majority[k=5]              the same over 5 of them; `k=all`: over all
vote-learned[quorum=exact]      one that learns, fitted on train, with a setting it runs by
neighbours+vote-majority[k=5]   an aggregator over the experts that a router chooses
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import yaml

from composer.errors import ConfigError
from composer.outcomes import OutcomeTable
from composer.protocols import Encoder, FittedRouter, RouterNeed
from composer.suggest import unknown_name
from eval.replay.aggregators import REPLAYED, aggregator_maker
from eval.replay.fits import Fits
from eval.replay.judged import Judged
from eval.replay.ladder import LADDER, fixed
from eval.replay.parts import Round
from eval.replay.routed import Composition, has_answers, judge
from routers import FITTED, make_fitted_router

ROUTERS = tuple(sorted(set(FITTED) - {"prior"}))
"""Routers that can run on recorded outcomes. `prior` is best-single or category-expert."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "neighbours": ("[targets=successes]",),
    "vote-majority": ("[k=all]",),
    "vote-learned": ("[quorum=exact]", "[quorum=posterior]"),
}
"""Settings that are among all methods, beside the default ones."""

_COMMA, _PLUS = r",(?![^\[]*\])", r"\+(?![^\[]*\])"
"""Outside brackets."""
_NAME = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<settings>[^\]]*)\])?")


class Judge(Protocol):
    """Fits a method on a round's train rows and judges it on the others."""

    def __call__(self, each: Round, *, known_category: bool, on_row: Callable[[], None]) -> Judged:
        """The decisions on the judged rows; `on_row` is called after each that took time."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """One line of a report."""

    name: str
    judge: Judge
    reads_answers: bool = False
    knows_category: bool = False
    """It uses the category whatever the routers are told."""
    in_hindsight: bool = False
    """It chooses on what it is judged on, so on all of it at once."""
    needs: frozenset[RouterNeed] = frozenset()
    """What its router must be told beside the queries."""


def all_methods(table: OutcomeTable) -> list[str]:
    """The names that are run unless others are asked for, in the order of the report."""
    names = [name for name in LADDER if name not in ("category-hindsight", "oracle")]
    names += _with_variants(ROUTERS)
    if has_answers(table):
        names += _with_variants(REPLAYED)
        names += [f"{router}+vote-majority" for router in ROUTERS]
    return [*names, "category-hindsight", "oracle"]


def _with_variants(names: Iterable[str]) -> list[str]:
    return [name + settings for name in names for settings in ("", *VARIANTS.get(name, ()))]


def make_method(name: str, encoder: Encoder, fits: Fits | None = None) -> Method:
    """The method of a name.

    Args:
        name: See the module.
        encoder: What routers embed queries with.
        fits: Shared by methods that are judged together; None: the method's own.

    Raises:
        ConfigError: There is none, or a setting is unknown or wrong.
    """
    if name in LADDER:
        return Method(
            name,
            _rung(LADDER[name]),
            knows_category=name.startswith("category"),
            in_hindsight=name == "category-hindsight",
        )
    fits = Fits() if fits is None else fits
    first, *rest = re.split(_PLUS, name, maxsplit=1)
    kind, settings = parse(first)
    if rest:
        return _composed(name, first, rest[0], encoder, fits)
    if kind in REPLAYED:
        return _composed(name, "prior", first, encoder, fits)
    if kind == "fixed":
        if settings.keys() != {"expert"}:
            raise ConfigError("method 'fixed' needs one setting: fixed[expert=NAME]")
        # As it is written: a name may look like a number.
        expert = first.partition("=")[2].removesuffix("]").strip()
        return Method(f"fixed[expert={expert}]", _rung(partial(fixed, expert=expert)))
    check_is_router(kind, [*LADDER, "fixed", *FITTED, *REPLAYED])
    fitting, needs = _fitting(first, encoder, fits)
    return Method(name, partial(judge, Composition(name, fitting)), needs=needs)


def check_is_router(kind: str, known: Sequence[str]) -> None:
    """Refuse a name that is no router's.

    Args:
        kind: Of a method, without its settings.
        known: The names of all methods that could have been meant.

    Raises:
        ConfigError: It is none, or that of a method without settings.
    """
    if kind in FITTED:
        return
    if kind in known:
        raise ConfigError(f"method {kind!r} takes no settings; write {kind!r} alone")
    raise ConfigError(unknown_name("method", kind, known))


def _rung(run: Callable[[Round], Judged]) -> Judge:
    def judge_rung(each: Round, *, known_category: bool, on_row: Callable[[], None]) -> Judged:
        return run(each)

    return judge_rung


def _fitting(
    text: str, encoder: Encoder, fits: Fits
) -> tuple[Callable[[OutcomeTable], FittedRouter], frozenset[RouterNeed]]:
    """What fits a router, and what the router needs; its settings are checked now."""
    kind, settings = parse(text)
    make = partial(make_fitted_router, kind, settings, encoder=encoder)
    return partial(fits.fit, text, lambda train: make().fit(train)), make().needs


def _composed(name: str, router: str, text: str, encoder: Encoder, fits: Fits) -> Method:
    kind, _ = parse(router)
    if kind not in FITTED:
        raise ConfigError(f"method {name!r}: {unknown_name('router', kind, FITTED)}")
    called, settings = parse(text)
    if called not in REPLAYED:
        raise ConfigError(unknown_name("aggregator to replay", called, REPLAYED))
    replayed = REPLAYED[called]
    k = settings.pop("k", replayed.k or "all")
    k = 1_000_000 if k == "all" else k
    if type(k) is not int or k < 1:
        raise ConfigError(f"method {name!r}: 'k' is {k!r}; give a whole number from 1, or 'all'")
    make = aggregator_maker(replayed.name, settings, fits)
    fitting, needs = _fitting(router, encoder, fits)
    composition = Composition(name, fitting, k, replayed.name, settings, make)
    return Method(name, partial(judge, composition), reads_answers=True, needs=needs)


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """A name and the settings in its brackets.

    Raises:
        ConfigError: It is written otherwise.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ConfigError(f"cannot read the method {text!r}; write name or name[setting=value,...]")
    settings: dict[str, Any] = {}
    for pair in filter(None, (found["settings"] or "").split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {pair!r} in {text!r}; write setting=value")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as exc:
            raise ConfigError(
                f"cannot read {value!r} in {text!r}; give a number or a word"
            ) from exc
    return found["name"], settings


def split_names(text: str) -> list[str]:
    """The names of a list that commas separate; commas inside brackets do not."""
    return [name.strip() for name in re.split(_COMMA, text) if name.strip()]


def cannot_run(methods: Sequence[Method], table: OutcomeTable) -> dict[str, str]:
    """The methods that this table cannot judge, and why."""
    annotations = [query.annotation for query in table.queries if query.annotation is not None]
    has: Mapping[RouterNeed, bool] = {
        "annotations": bool(annotations),
        "descriptions": any(expert.description for expert in table.experts),
        "likelihoods": any("nats_per_byte" in each.values for each in annotations),
    }
    reasons: dict[str, str] = {}
    for method in methods:
        lacks = sorted(need for need in method.needs if not has.get(need, False))
        if lacks:
            reasons[method.name] = f"no {' and no '.join(lacks)} are recorded"
        elif method.reads_answers and not has_answers(table):
            reasons[method.name] = "no answers are recorded"
    return reasons
