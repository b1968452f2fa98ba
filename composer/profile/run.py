"""A profile: every case asked of every expert, scored, and annotated for routers that need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from composer.aggregators.synthesis.measured import AggregatorScore, check_free
from composer.errors import ConfigError
from composer.experts import Registry
from composer.fingerprint import settings_digest
from composer.outcomes import OutcomeTable
from composer.outcomes.lines import QUERIES
from composer.outcomes.store import MANIFEST
from composer.pool.pool import Pool
from composer.profile.aggregating import check_cases, measure_aggregators
from composer.profile.annotating import Annotating, annotate
from composer.profile.asking import Asking, Progress
from composer.profile.cases import Case
from composer.profile.journal import FILE, Journal
from composer.profile.scoring import make_table
from composer.suggest import unknown_name
from composer.types import Failure, Outcome, Request

IN_FLIGHT = 256
"""Requests that an engine has at one time: enough for a full batch in any engine."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What came of a profile."""

    table: OutcomeTable
    """A row each case, a column each expert; unknown where the expert failed."""
    failures: tuple[Failure, ...]
    """Of requests that have no better outcome: for answers, annotations and syntheses."""
    told: tuple[tuple[Request, Outcome], ...]
    """What every expert was asked of every case, and what came of it."""
    aggregators: tuple[AggregatorScore, ...] = ()
    """How well each expert aggregates, in the order of the columns; empty: it was not measured."""


async def profile(
    cases: Sequence[Case],
    registry: Registry,
    pool: Pool,
    folder: Path,
    *,
    experts: Sequence[str] | None = None,
    annotators: Mapping[str, Annotating] | None = None,
    aggregators: bool = False,
    in_flight: int = IN_FLIGHT,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Profile:
    """Ask every expert every case, each expert loaded once, and score what they say.

    Outcomes are kept in the folder's journal as they come. Called again with the same folder it
    asks only what is missing or failed; experts may be added then, and references corrected.

    Args:
        cases: With different ids, at least one.
        registry: The experts.
        pool: Where they run; of the same registry.
        folder: Keeps the journal; the table is the caller's to save, there or elsewhere.
        experts: Whom to ask, in the order of the columns; None: all.
        annotators: Algorithms of routers to annotate the queries for, by the routers' names.
        aggregators: Have every expert synthesise others' answers too, and measure how well.
        in_flight: Requests that an engine has at one time.
        on_progress: Called after every outcome.

    Raises:
        ConfigError: An expert or annotator is wrong; no case is left to measure aggregators by; or
            the folder cannot be used: it holds another table or aggregator, or a journal of other
            cases or other settings, or another run writes there.
    """
    names = _chosen(registry, experts)
    _check_folder(folder)
    if aggregators:
        check_cases(cases)
        check_free(folder)
    settings = {name: settings_digest(registry, name) for name in registry.experts}
    with Journal(folder, cases, settings) as journal:
        asking = Asking(registry, pool, journal, in_flight, on_progress)
        requests = {(case.id, name): _request(case, name) for name in names for case in cases}
        outcomes = await asking.ask("answers", list(requests.values()))
        annotations: dict[str, dict[str, Any]] = {}
        failures = [o for o in outcomes.values() if isinstance(o, Failure)]
        for what, annotator in (annotators or {}).items():
            found, failed = await annotate(what, annotator, cases, names, asking)
            failures += failed
            for case_id, values in found.items():
                annotations[case_id] = annotations.get(case_id, {}) | values
        told = {cell: outcomes[request.id] for cell, request in requests.items()}
        scores: tuple[AggregatorScore, ...] = ()
        if aggregators:
            scores, failed = await measure_aggregators(cases, names, told, asking)
            failures += failed
    entries = [registry.experts[name] for name in names]
    table = make_table(folder.name or "profile", cases, entries, told, annotations)
    asked = tuple((request, outcomes[request.id]) for request in requests.values())
    return Profile(table, tuple(failures), asked, scores)


def _chosen(registry: Registry, experts: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(registry.routed if experts is None else experts))
    for name in names:
        if name not in registry.experts:
            raise ConfigError(unknown_name("expert", name, registry.experts))
    return names


def _check_folder(folder: Path) -> None:
    """Refuse now what could not be saved to in the end."""
    for file in (QUERIES, MANIFEST):
        if (folder / file).exists() and not (folder / FILE).exists():
            raise ConfigError(f"{folder}: holds {file}, another table; name another folder")


def _request(case: Case, expert: str) -> Request:
    query = case.to_query()
    sampling = replace(query.sampling, n=1)
    return Request(f"answers/{expert}/{case.id}", expert, query.messages, sampling)
