"""`python -m eval simulate`: what an order of requests and a policy of eviction save."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from composer.backends import GIB
from composer.errors import ConfigError
from composer.pool.eviction import EVICTIONS
from eval.console import stdout_console
from eval.simulate.hardware import make_hardware, read_figures
from eval.simulate.simulator import Outcome, simulate
from eval.simulate.trace import Aggregation, Popularity, add_aggregator, make_trace
from eval.simulate.trace_file import read_trace

Option = typer.Option


def simulate_command(
    file: Annotated[
        Path | None,
        typer.Argument(help="JSON lines with `query` and `expert`. Left out: a trace is made."),
    ] = None,
    queries: Annotated[int, Option(help="Of a made trace.")] = 1000,
    experts: Annotated[int, Option(help="Of a made trace.")] = 16,
    distinct: Annotated[int, Option(help="Experts that each query of it asks.")] = 3,
    popularity: Annotated[Popularity, Option(help="Of its experts.")] = "uniform",
    seed: Annotated[int, Option(help="What it is drawn from.")] = 0,
    prompt_tokens: Annotated[int, Option(min=0, help="Of a request that does not say.")] = 200,
    completion_tokens: Annotated[int, Option(min=0, help="Of a request that does not say.")] = 100,
    aggregator: Annotated[
        Aggregation,
        Option(help="Who makes one answer of a query's: an expert of them, or another."),
    ] = "none",
    policy: Annotated[
        list[str] | None, Option(help=f"One or more of: {', '.join(EVICTIONS)}. Left out: all.")
    ] = None,
    window: Annotated[
        list[int] | None, Option(help="Requests sorted by expert at a time; one or more windows.")
    ] = None,
    memory: Annotated[str, Option(help="In experts ('4') or bytes ('24GiB').")] = "1",
    figures: Annotated[
        Path | None, Option(help="JSON: memory_gib and load_s of experts, by name.")
    ] = None,
    load_s: Annotated[float, Option(help="Seconds of a load where the figures lack it.")] = 10.0,
    switch_s: Annotated[float, Option(help="Seconds from one loaded expert to another.")] = 0.0,
    slots: Annotated[int, Option(help="Experts that load or generate at one time.")] = 1,
    prompt_tokens_per_s: Annotated[float, Option(help="Read, in one slot.")] = 5000.0,
    tokens_per_s: Annotated[float, Option(help="Generated, in one slot.")] = 500.0,
    timeline: Annotated[Path | None, Option(help="Draw it there: .png or .html.")] = None,
    output: Annotated[Literal["table", "json"], Option(help="How to print it.")] = "table",
) -> None:
    """What an order of requests and a policy of eviction cost in loads and seconds.

    No model is run. All requests are there from the start; they run as they arrive, sorted by
    expert within windows, and (`grouped`) all requests to an expert together. A request takes its
    tokens by their rates, whatever runs beside it: that batches are faster is left out.
    """
    if timeline is not None and find_spec("matplotlib") is None:
        raise ConfigError(
            "matplotlib is not installed, which draws the timeline; install "
            "multi-llm-composer[eval], or leave out --timeline"
        )
    if file is not None:
        trace = read_trace(file, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    else:
        trace = make_trace(
            queries=queries,
            experts=experts,
            distinct=distinct,
            popularity=popularity,
            seed=seed,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
    trace = add_aggregator(trace, aggregator)
    hardware = make_hardware(
        trace.experts,
        memory=memory,
        figures=read_figures(figures) if figures is not None else None,
        load_s=load_s,
        slots=slots,
        switch_s=switch_s,
        prompt_tokens_per_s=prompt_tokens_per_s,
        completion_tokens_per_s=tokens_per_s,
    )
    outcomes = simulate(trace, hardware, policies=policy or tuple(EVICTIONS), windows=window or ())
    n_queries = int(trace.query.max()) + 1
    title = (
        f"{n_queries:,} queries, {len(trace):,} requests, {len(trace.experts)} experts, "
        f"memory {memory}"
    )
    if timeline is not None:
        from eval.simulate.timeline import draw_timeline  # noqa: PLC0415 - brings matplotlib

        draw_timeline(timeline, outcomes, title)
    if output == "json":
        sys.stdout.write(json.dumps(_to_json(n_queries, memory, outcomes), indent=1) + "\n")
        return
    stdout_console().print(_to_table(title, outcomes))


def _to_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    table = Table("order", "policy", title=title)
    for column in ("loads", "x grouped", "hit rate", "GiB loaded", "seconds", "x grouped"):
        table.add_column(column, justify="right")
    for row in _rows(outcomes):
        size = row["loaded_bytes"]
        table.add_row(
            row["order"],
            row["policy"],
            f"{row['loads']:,}",
            f"{row['loads_ratio']:.1f}",
            f"{row['hit_rate']:.1%}",
            "unknown" if size is None else f"{size / GIB:,.1f}",
            f"{row['seconds']:,.0f}",
            "none" if row["seconds_ratio"] is None else f"{row['seconds_ratio']:.1f}",
        )
    return table


def _to_json(n_queries: int, memory: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "queries": n_queries,
        "requests": outcomes[-1].requests,
        "memory": memory,
        "outcomes": _rows(outcomes),
    }


def _rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row an outcome; ratios are to the grouped one, which is last."""
    grouped = outcomes[-1]
    return [
        {
            "order": outcome.order,
            "policy": outcome.policy,
            "loads": outcome.loads,
            "loads_ratio": outcome.loads / grouped.loads,
            "hit_rate": outcome.hit_rate,
            "loaded_bytes": outcome.loaded_bytes,
            "seconds": outcome.seconds,
            "load_seconds": outcome.load_seconds,
            "seconds_ratio": outcome.seconds / grouped.seconds if grouped.seconds else None,
        }
        for outcome in outcomes
    ]
