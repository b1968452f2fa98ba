"""The aggregators, by the name that a composition calls one by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from composer.aggregators.best import BestAggregator
from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.aggregators.cross_attention import CrossAttentionAggregator
from composer.aggregators.ensemble.ensemble import EnsembleAggregator
from composer.aggregators.judge.judge import JudgeAggregator
from composer.aggregators.judge.rank_and_fuse import RankAndFuseAggregator
from composer.aggregators.judge.refine import RefineAggregator
from composer.aggregators.synthesis.self_moa import SelfMoaAggregator
from composer.aggregators.synthesis.sequential import SequentialAggregator
from composer.aggregators.synthesis.synthesis import SynthesisAggregator
from composer.aggregators.vote import VoteAggregator, read_learned_vote, read_weighted_vote
from composer.errors import ConfigError
from composer.protocols import Aggregator
from composer.suggest import suggest, unknown_name

AGGREGATORS: Mapping[str, Callable[..., Aggregator]] = {
    "best": BestAggregator,
    "cascade": CascadeAggregator,
    "cross-attention": CrossAttentionAggregator,
    "ensemble": EnsembleAggregator,
    "judge": JudgeAggregator,
    "rank-and-fuse": RankAndFuseAggregator,
    "refine": RefineAggregator,
    "self-moa": SelfMoaAggregator,
    "sequential": SequentialAggregator,
    "synthesis": SynthesisAggregator,
    "vote": VoteAggregator,
    "vote-learned": read_learned_vote,
    "vote-weighted": read_weighted_vote,
}


def make_aggregator(
    name: str, settings: Mapping[str, Any], *, folder: Path | None = None
) -> Aggregator:
    """The aggregator of that name with these settings: the keyword arguments of its class.

    Args:
        name: In `AGGREGATORS`.
        settings: As in experts.yaml; `from` is the class's `from_`, a path.
        folder: What `from` is relative to; None: the working directory.

    Raises:
        ConfigError: There is none of that name, or a setting is unknown or of another type.
    """
    if name not in AGGREGATORS:
        raise ConfigError(unknown_name("aggregator", name, AGGREGATORS))
    make = AGGREGATORS[name]
    parameters = inspect.signature(make, eval_str=True).parameters
    known = {parameter.rstrip("_"): parameter for parameter in parameters}
    for setting, value in settings.items():
        if setting not in known:
            raise ConfigError(
                f"aggregator {name!r} has no setting {setting!r}; {suggest(setting, known)}"
            )
        try:
            TypeAdapter[Any](parameters[known[setting]].annotation).validate_python(
                value, strict=True
            )
        except ValidationError as exc:
            why = " or ".join(error["msg"][0].lower() + error["msg"][1:] for error in exc.errors())
            raise ConfigError(
                f"aggregator {name!r}: setting {setting!r} cannot be {value!r}: {why}; "
                f"its settings are {sorted(known)}"
            ) from exc
    for setting, parameter in known.items():
        is_required = parameters[parameter].default is inspect.Parameter.empty
        if is_required and setting not in settings:
            raise ConfigError(f"aggregator {name!r} needs the setting {setting!r}; add it")
    given = {known[setting]: value for setting, value in settings.items()}
    if folder is not None and isinstance(given.get("from_"), str):
        given["from_"] = str(folder / given["from_"])
    return make(**given)
