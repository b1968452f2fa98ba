"""The ensemble: experts' distributions, weighed by the domain posterior, become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from composer.aggregators.ensemble.answer_level import AnswerLevel
from composer.aggregators.ensemble.posterior import largest, normalised
from composer.aggregators.ensemble.token_level import mix_tokens
from composer.aggregators.saved import load_learned
from composer.backends import backend_entry
from composer.errors import ConfigError
from composer.experts import Expert
from composer.protocols import AggregatorNeed, Flow, Tools
from composer.suggest import unknown_name
from composer.types import Answer, AnswerType, Query, Selection

Level = Literal["auto", "answer", "token"]
_NEEDS: Mapping[Level, AggregatorNeed] = {
    "auto": "continuation",
    "answer": "continuation",
    "token": "peers",
}


class EnsembleAggregator:
    """Branch-Train-Merge's ensemble, over answers or over tokens.

    Level `answer`, for experts of any vocabularies: each scores the same few answers, and their
    distributions over these are averaged. Level `token`, for experts that one engine holds (a base
    and its LoRA experts): they write one text, each token drawn from the average of their
    distributions, weighed anew after every token. `details["level"]` says which one ran. Both
    begin with the prior, and both let the query's text count where `tau` says so.

    Nothing is kept from one query to the next. So the source's updating prior, which moves with
    each text, is a fitted one here: `fit_ensemble` runs it over recorded queries and keeps its
    last value.

    Source: see the module `posterior`. Deviations are said with each level.
    """

    name = "ensemble"
    experts: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        level: Level = "auto",
        answer_type: AnswerType = "choice",
        options: list[str] | None = None,
        prior: dict[str, float] | None = None,
        from_: str | None = None,
        tau: float = 0.0,
        top_k: int | None = None,
    ) -> None:
        """Store the settings.

        Args:
            level: `auto` is `token` where one engine holds all experts chosen and no options are
                given, else `answer`.
            answer_type: How answers are read from what experts propose (level answer), unless the
                query says.
            options: The answers to score; None: those that the experts propose (level answer).
            prior: What each expert counts before it has read anything; None: all alike. Only
                ratios matter.
            from_: Folder of a fitted prior, instead of `prior`.
            tau: How much of the log-likelihood of the query's text counts, 0 to 1; at 0 nobody is
                asked for it. Tokens of the answer (level token) count in full.
            top_k: How many of the chosen experts count, those of the largest prior; None: all.

        Raises:
            ConfigError: A setting is out of its range, options are given for level `token`, or
                there is no fitted prior in the folder.
        """
        if options is not None and (len(set(options)) < 2 or not all(o.strip() for o in options)):
            raise ConfigError(
                f"aggregator 'ensemble': 'options' is {options}; give two different texts or more"
            )
        if not 0 <= tau <= 1:
            raise ConfigError(f"aggregator 'ensemble': 'tau' is {tau}; set it from 0 to 1")
        if top_k is not None and top_k < 1:
            raise ConfigError(f"aggregator 'ensemble': 'top_k' is {top_k}; set 1 or more")
        if prior is not None and from_ is not None:
            raise ConfigError("aggregator 'ensemble': has 'prior' and 'from'; give one of them")
        if level == "token" and options is not None:
            raise ConfigError(
                "aggregator 'ensemble': 'options' is for level 'answer'; "
                "remove it or set level: answer"
            )
        if from_ is not None:
            prior = dict(load_learned(Path(from_), self.name)["prior"])
        for expert, weight in (prior or {}).items():
            if not 0 < weight < float("inf"):
                raise ConfigError(
                    f"aggregator 'ensemble': the prior of {expert!r} is {weight}; "
                    "set it above 0, or keep the expert out by 'top_k'"
                )
        needs: set[AggregatorNeed] = {_NEEDS[level]}
        if tau:
            needs.add("continuation")
        self.needs: frozenset[AggregatorNeed] = frozenset(needs)
        self._level = "answer" if level == "auto" and options is not None else level
        self._answers = AnswerLevel(
            self.name, answer_type, None if options is None else tuple(options), tau
        )
        self._tau = tau
        self._prior = prior
        self._top_k = top_k
        self._engine_of: dict[str, str] = {}

    def check(self, experts: Mapping[str, Expert], k: int) -> None:
        """See `Aggregator.check`; which experts share an engine is kept for the level `auto`."""
        self._check_prior(experts)
        self._engine_of = {
            name: expert.base or name
            for name, expert in experts.items()
            if backend_entry(expert.engine).capabilities.peers
        }
        if self._level == "token" and k > 1:
            one, *others = experts
            stranger = next((e for e in others if not self._share_engine((one, e))), None)
            if stranger is not None:
                raise ConfigError(
                    "aggregator 'ensemble': level 'token' mixes distributions over one vocabulary, "
                    f"and {one!r} and {stranger!r} are not on one engine; "
                    "make all experts LoRA experts of one base, or set level: answer"
                )

    def combine(self, query: Query, selection: Selection, tools: Tools) -> Flow[Answer]:
        """See `Aggregator.combine`."""
        chosen = tuple(choice.expert for choice in selection.choices)
        weights = [1.0 if self._prior is None else self._prior[e] for e in chosen]
        kept = range(len(chosen)) if self._top_k is None else largest(weights, self._top_k)
        experts = tuple(chosen[j] for j in kept)
        prior = dict(zip(experts, normalised([weights[j] for j in kept]), strict=True))
        if self._level == "token" or (self._level == "auto" and self._share_engine(experts)):
            return mix_tokens(self.name, query, selection, prior, self._tau, tools)
        return self._answers.combine(query, prior, tools)

    def _share_engine(self, experts: tuple[str, ...]) -> bool:
        """Whether one engine that mixes experts holds all of these."""
        engines = {self._engine_of.get(expert) for expert in experts}
        return len(engines) == 1 and None not in engines

    def _check_prior(self, experts: Mapping[str, Expert]) -> None:
        if self._prior is None:
            return
        for name in self._prior:
            if name not in experts:
                raise ConfigError(f"aggregator 'ensemble': {unknown_name('expert', name, experts)}")
        for name in experts:
            if name not in self._prior:
                raise ConfigError(
                    f"aggregator 'ensemble': the prior has no {name!r}; give every expert a weight"
                )
