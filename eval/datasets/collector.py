"""Queries and outcomes as an importer meets them, each cell once."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

from composer.errors import ConfigError
from composer.outcomes import RecordedExpert, RecordedQuery
from eval.datasets.imported import NOTHING_BESIDE, Details, Imported, Options, Outcome
from eval.datasets.source import Source
from eval.datasets.splits import hashed_split

UNSPLIT = ""
"""The split of a query, until all are known, where the source names none."""


class Collector:
    """What is found in a source, and notes on what was merged or left out."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._queries: dict[str, RecordedQuery] = {}
        self._identities: dict[str, str] = {}
        self._experts: dict[str, RecordedExpert] = {}
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._met: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._remarks: list[str] = []

    def count(self, what: str) -> None:
        """Count one more of something that a person should hear of."""
        self._counts[what] += 1

    def remark(self, what: str) -> None:
        """Say something that a person should hear of."""
        self._remarks.append(what)

    def describe(self, expert: RecordedExpert) -> None:
        """Keep what the source says of a model, in case it has outcomes."""
        self._experts[expert.name] = expert

    def add_query(
        self,
        at: str,
        *,
        prompt: str,
        category: str | None,
        split: str | None = None,
        own_id: str | None = None,
        reference: object = None,
        identity: str | None = None,
        flags: frozenset[str] = frozenset(),
    ) -> str:
        """The id of a query, which is new or the same as before.

        Args:
            at: Where it stands.
            prompt: What was asked.
            category: Its subject or benchmark.
            split: What the source says; None: nothing.
            own_id: The source's id, unique within the category; None: queries of one category,
                split and prompt are one.
            reference: The right answer; values other than texts become JSON.
            identity: What must be the same wherever `own_id` is; None: the prompt.
            flags: See `RecordedQuery`.

        Raises:
            ConfigError: The same id stands for another question.
        """
        tail = own_id if own_id is not None else _digest(category, split, prompt)
        query_id = f"{category}:{tail}" if category else tail
        identity = prompt if identity is None else identity
        known = self._queries.get(query_id)
        if known is None:
            self._identities[query_id] = identity
            self._queries[query_id] = RecordedQuery(
                query_id, prompt, split or UNSPLIT, category, as_text(reference), flags
            )
        elif self._identities[query_id] != identity:
            raise ConfigError(f"{at}: {query_id!r} is another question than before; mend the ids")
        elif known.prompt != prompt:
            self.count("outcomes of a question in other words, the first words kept")
        return query_id

    def add(
        self,
        at: str,
        query_id: str,
        model: str,
        score: float | None,
        details: Details = NOTHING_BESIDE,
        *,
        text: str | None = None,
    ) -> None:
        """Keep one outcome, unless its score is None or NaN.

        Raises:
            ConfigError: The score is outside [0, 1], an amount is below 0, or the cell has another
                score already.
        """
        self._met.add(model)
        if score is None or math.isnan(score):
            self.count("outcomes without a score, missing")
            return
        outcome = Outcome(
            query_id, model, self._scaled(at, model, score), _checked(at, model, details)
        )
        cell = (query_id, model)
        known = self._outcomes.setdefault(cell, outcome)
        if known is outcome:
            if text is not None and self._options.texts:
                self._texts[cell] = text
        elif known.score == outcome.score:
            self.count("equal outcomes of one cell, merged")
        elif self._options.keep_first:
            self.count("other scores of one cell, the first kept")
        else:
            raise ConfigError(
                f"{at}: {model!r} has the score {outcome.score:g} here and {known.score:g} before, "
                "for the same query; mend the file, or keep the first with --keep-first"
            )

    def finish(self) -> Imported:
        """All of it, with splits.

        Raises:
            ConfigError: There is no outcome.
        """
        if not self._outcomes:
            raise ConfigError(f"{self._source.root}: no score at all; is it the right file?")
        names = dict.fromkeys(model for _, model in self._outcomes)
        for _ in self._met - names.keys():
            self.count("models without any score, left out")
        outcomes = self._without_empty_costs()
        queries = self._with_splits()
        return Imported(
            queries,
            tuple(self._experts.get(name, RecordedExpert(name)) for name in names),
            outcomes,
            self._texts,
            (*(f"{what}: {n}" for what, n in self._counts.items()), *self._remarks),
            self._source.files,
        )

    def _scaled(self, at: str, model: str, score: float) -> float:
        scaled = score / self._options.scale
        if not 0 <= scaled <= 1:
            raise ConfigError(
                f"{at}: the score {scaled:g} of {model!r} is outside [0, 1]; say with --scale what "
                "scores are out of"
            )
        return scaled

    def _without_empty_costs(self) -> tuple[Outcome, ...]:
        """The outcomes; a model whose every cost is 0 was never priced, which is not free."""
        spent: dict[str, float] = {}
        for outcome in self._outcomes.values():
            if outcome.details.cost_usd is not None:
                spent[outcome.model] = spent.get(outcome.model, 0.0) + outcome.details.cost_usd
        unpriced = {model for model, cost_usd in spent.items() if cost_usd == 0}
        for _ in unpriced:
            self.count("models whose every cost is 0, unknown and not free")
        return tuple(
            replace(outcome, details=replace(outcome.details, cost_usd=None))
            if outcome.model in unpriced
            else outcome
            for outcome in self._outcomes.values()
        )

    def _with_splits(self) -> tuple[RecordedQuery, ...]:
        queries = tuple(self._queries.values())
        splits = {query.split for query in queries}
        share = self._options.test_share
        if splits == {UNSPLIT}:
            self.remark(f"split by SHA-1 of the ids, {share:.0%} test: the source names no splits")
            queries = tuple(replace(q, split=hashed_split(q.id, share)) for q in queries)
        elif UNSPLIT in splits:
            self.remark("files without a split beside such as have one: `ood`")
            queries = tuple(q if q.split else replace(q, split="ood") for q in queries)
        if all(query.split != "train" for query in queries):
            self.remark("no query is in `train`: no router can be fitted on this table")
        return queries


def as_text(value: object) -> str | None:
    """A value that should be a text; others as JSON, none and the empty text as None."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _checked(at: str, model: str, details: Details) -> Details:
    amounts: dict[str, Any] = {}
    for name in ("cost_usd", "latency_s", "prompt_tokens", "completion_tokens"):
        value = getattr(details, name)
        if value is not None and math.isnan(value):
            amounts[name] = None
        elif value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{at}: {name} {value:g} of {model!r} is no amount; mend the record")
    return replace(details, **amounts) if amounts else details


def _digest(*parts: str | None) -> str:
    joined = "\0".join(part or "" for part in parts)
    return hashlib.sha1(joined.encode(), usedforsecurity=False).hexdigest()[:16]
