"""What answering a batch would take: its queries routed, its stages planned, and nobody asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from composer.aggregators.cascade.cascade import CascadeAggregator
from composer.backends.resolution import resolve_spec
from composer.bulk.expected import Tally, tally_first
from composer.bulk.joint import JointChoice
from composer.bulk.limits import NO_LIMITS, Limits, check_limits
from composer.bulk.lines import Batch, Reject
from composer.bulk.marginal import LoadSaving
from composer.bulk.progress import StageRecord
from composer.bulk.routing import route_batch
from composer.bulk.stages import (
    COMPLETION_TOKENS_PER_S,
    LOAD_S,
    PROMPT_TOKENS_PER_S,
    StagePlanner,
)
from composer.bulk.waiting import Load
from composer.composed import Composed
from composer.errors import ConfigError
from composer.experts import Registry
from composer.pool.plan import Plan
from composer.pool.pool import Pool
from composer.tools import PoolTools


@dataclass(frozen=True)
class DryRun:
    """A batch as it would be answered."""

    n_queries: int
    n_refused: int
    """Queries that the composition abstains from."""
    n_failed: int
    """Queries that fail before anyone is asked, such as those too long for every context."""
    rejects: tuple[Reject, ...]
    ignored: Mapping[str, int]
    """See `Batch.ignored`."""
    chosen: Mapping[str, int]
    """Queries that each expert is chosen for; with k > 1 a query counts k times."""
    saving: LoadSaving | None
    """What a penalty for loads changes; None: the composition has no `load_weight`."""
    joint: JointChoice | None
    """What the limits of the batch change; None: there are none."""
    asked: Mapping[str, Load]
    """What each expert is asked, as far as that is known; most requests first."""
    plan: Plan
    """The stages of local engines."""
    experts: Mapping[str, tuple[str, ...]]
    """Whom of those asked each local engine serves, by its key."""
    endpoints: tuple[str, ...]
    """Experts asked that run elsewhere and take no slot; no stage is theirs."""
    usd: float
    """Of all that is asked."""
    budget_bytes: int
    """Of the largest machine."""
    slots: Mapping[str, int]
    """Of each machine."""
    notes: tuple[str, ...]
    """What is guessed or left out, a sentence each."""


async def dry_run(
    path: Path,
    composed: Composed,
    registry: Registry,
    pool: Pool,
    *,
    models: Path,
    limits: Limits = NO_LIMITS,
    measured: Iterable[StageRecord] = (),
) -> DryRun:
    """Route and plan a batch file as `run_batch` would; nothing is loaded, asked or downloaded.

    Every flow is run to its first requests. Of what follows, those to experts that the aggregator
    names are counted, one a query, which reads what the first ones wrote.

    Args:
        path: JSON lines; see `composer.bulk.lines`.
        composed: Routes, chooses and combines.
        registry: The experts; of the pool as well.
        pool: Knows what engines take; it starts none.
        models: The folder that the pool keeps converted models in.
        limits: See `run_batch`.
        measured: Stages of batches before: they say how fast engines are.

    Raises:
        ConfigError: The file cannot be read; the router has to ask experts; a model is not on this
            disk, so that its size is unknown; an engine does not fit into memory; or the limits
            cannot be kept to.
        RoutingError: The queries cannot be scored at all.
    """
    check_limits(composed, limits)
    router = composed.router
    if "likelihoods" in router.needs:
        raise ConfigError(
            f"router {router.name!r} asks experts how likely they find each query, and a plan asks "
            "nobody; plan another composition"
        )
    await pool.find_nodes()
    planner = StagePlanner(registry, pool, last=composed.aggregator.experts)
    rates = _measure(planner, measured)
    with Batch(path) as batch, TemporaryDirectory(prefix="composer-plan-") as folder:
        routes = await route_batch(
            composed, planner, batch, Path(folder), lambda row: None, lambda n_done: None, limits
        )
        named = dict.fromkeys((*routes.experts, *composed.aggregator.experts))
        absent = await _resolve(named, registry, pool, models)
        tally = await tally_first(batch, routes, PoolTools(pool))
        annotates = router.annotate(batch.query(0)) is not None
    if missing := [name for name in tally.asked if name in absent]:
        raise absent[missing[0]]
    loads: dict[str, Load] = {}
    experts: dict[str, tuple[str, ...]] = {}
    for name in registry.experts:
        if name in tally.asked and planner.is_local(planner.key(name)):
            key = planner.key(name)
            loads[key] = loads.get(key, Load()) + tally.asked[name]
            experts[key] = (*experts.get(key, ()), name)
    notes = [
        *_notes_on_requests(composed, tally, annotates=annotates),
        *_notes_on_figures(pool, experts, rates),
    ]
    prices = {name: registry.experts[name].price for name in tally.asked}
    return DryRun(
        n_queries=len(batch),
        n_refused=tally.n_refused,
        n_failed=tally.n_failed,
        rejects=batch.rejects,
        ignored=batch.ignored,
        chosen=dict(tally.chosen.most_common()),
        saving=routes.saving,
        joint=routes.joint,
        asked=dict(sorted(tally.asked.items(), key=lambda item: -item[1].requests)),
        plan=planner.plan(loads),
        experts=experts,
        endpoints=tuple(n for n in tally.asked if not planner.is_local(planner.key(n))),
        usd=sum(
            prices[name].cost_usd(load.prompt_tokens, load.completion_tokens)
            for name, load in tally.asked.items()
        ),
        budget_bytes=pool.budget_bytes,
        slots={node.name: node.slots for node in pool.nodes},
        notes=tuple(notes),
    )


def _measure(planner: StagePlanner, records: Iterable[StageRecord]) -> frozenset[str]:
    """Tell the planner how fast engines were; the keys of those that it knows then."""
    found: set[str] = set()
    for record in records:
        seconds = record.end_s - record.start_s - record.load_s
        if record.completion_tokens and seconds > 0:
            planner.measure(record.engine, record.completion_tokens, seconds)
            found.add(record.engine)
    return frozenset(found)


async def _resolve(
    names: Iterable[str], registry: Registry, pool: Pool, models: Path
) -> Mapping[str, ConfigError]:
    """Have the pool find the models that are on this disk; why it cannot find the others."""
    absent: dict[str, ConfigError] = {}
    for name in names:
        spec = registry.engine_spec(name)
        try:
            await asyncio.to_thread(
                resolve_spec, spec, models=models, download=False, convert=_refuse_to_convert
            )
        except ConfigError as exc:
            absent[name] = ConfigError(
                f"the size of expert {name!r} is unknown ({exc}); `composer experts pull {name}` "
                "brings its model here"
            )
        else:
            await pool.resolve(name)
    return absent


def _refuse_to_convert(gguf: Path, folder: Path) -> None:
    raise ConfigError(f"{gguf.name} is not converted")


def _notes_on_requests(composed: Composed, tally: Tally, *, annotates: bool) -> Iterable[str]:
    if annotates:
        yield (
            f"router {composed.router.name!r} asks an expert about each query first: routed here "
            "without that, and those requests are not in the plan"
        )
    yield (
        "prompts are counted by estimate, and every text as if it became as long as its expert's "
        "max_tokens"
    )
    if tally.later and isinstance(composed.aggregator, CascadeAggregator):
        yield (
            f"later stages ({', '.join(sorted(tally.later))}) are counted for every query; one "
            "that is answered surely before ends there"
        )
    elif tally.later:
        yield (
            f"of later rounds one request a query to {', '.join(sorted(tally.later))} is counted, "
            "as if it waited for nobody; what else they ask depends on what experts say"
        )
    else:
        yield "only first requests are counted; what later ones ask depends on what experts say"


def _notes_on_figures(
    pool: Pool, experts: Mapping[str, Sequence[str]], rates: frozenset[str]
) -> Iterable[str]:
    never = [names[0] for names in experts.values() if not pool.load_seconds(names[0])]
    if never:
        yield (
            f"never loaded here, so a load is guessed to take {LOAD_S:g} s and memory is an "
            f"estimate: {', '.join(never)}"
        )
    slow = [
        names[0]
        for key, names in experts.items()
        if key not in rates and pool.tokens_per_s(names[0]) is None
    ]
    if slow:
        yield (
            f"tokens/s are guessed ({PROMPT_TOKENS_PER_S:g} read, {COMPLETION_TOKENS_PER_S:g} "
            f"written): {', '.join(slow)}; a batch measures what is written"
        )
