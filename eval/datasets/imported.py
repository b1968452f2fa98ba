"""What an import is told and what it makes: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from composer.outcomes import RecordedExpert, RecordedQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a source is read; the last five concern one format each."""

    test_share: float = 0.3
    """Share of the queries that go to `test` where the source names no split."""
    scale: float = 1.0
    """What the source's scores are out of: they are divided by it."""
    keep_first: bool = False
    """Of two different scores for one cell the first counts; else they are refused."""
    texts: bool = True
    """Have the models' full texts as well."""
    binarise: tuple[str, ...] = ()
    """RouterDC: categories in which any score above 0 counts as 1."""
    metrics: tuple[str, ...] = ()
    """lm-eval: the first of these that a sample has is its score; none: the usual ones."""
    filter: str | None = None
    """lm-eval: whose extraction counts where a task was scored by several filters."""
    question: str | None = None
    """lm-eval: the field of the task's document that is the prompt; None: all that was sent."""
    annotator: str | None = None
    """AlpacaEval: whose preferences count where there are several annotators."""


DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of an outcome beside its score; None: nothing."""

    cost_usd: float | None = None
    latency_s: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    answer: str | None = None
    has_answer: bool = False
    """Whether the source records answers; where it does, an answer of None says that the text
    held none."""


NOTHING_BESIDE = Details()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How well one model did on one query."""

    query_id: str
    model: str
    score: float
    """In [0, 1]."""
    details: Details = NOTHING_BESIDE


@dataclass(frozen=True, slots=True)
class Imported:
    """All that a source holds, in the order in which it was met."""

    queries: tuple[RecordedQuery, ...]
    experts: tuple[RecordedExpert, ...]
    outcomes: tuple[Outcome, ...]
    """Of cells that are known; all others are missing."""
    texts: Mapping[tuple[str, str], str]
    """(query id, model) -> the model's full text."""
    notes: tuple[str, ...]
    """What was decided on the way, for a person to read."""
    files: tuple[Path, ...]
    """The files that were read."""
