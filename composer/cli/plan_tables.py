"""A plan as JSON, and as tables with what is to be known of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from composer.backends import GIB
from composer.bulk.dry_run import DryRun
from composer.cli.batch import duration, spared
from composer.cli.explain import make_table
from composer.cli.limits import kept_to
from composer.cli.output import stdout


def plan_json(planned: DryRun) -> dict[str, Any]:
    """A plan as JSON values."""
    estimate = asdict(planned.plan.estimate) | {"usd": planned.usd}
    return {
        "queries": planned.n_queries,
        "rejected": [asdict(reject) for reject in planned.rejects],
        "refused": planned.n_refused,
        "failed": planned.n_failed,
        "ignored": planned.ignored,
        "saving": asdict(planned.saving) if planned.saving is not None else None,
        "joint": asdict(planned.joint) if planned.joint is not None else None,
        "experts": [
            {"expert": name, "queries": planned.chosen.get(name, 0)} | asdict(load)
            for name, load in planned.asked.items()
        ],
        "stages": stage_rows(planned),
        "endpoints": planned.endpoints,
        "estimate": estimate | {"budget_bytes": planned.budget_bytes},
        "notes": planned.notes,
    }


def stage_rows(planned: DryRun) -> list[dict[str, Any]]:
    """What each stage does, in the order of their starts."""
    rows: list[dict[str, Any]] = []
    for stage in planned.plan.stages:
        loads = [planned.asked[name] for name in planned.experts[stage.engine]]
        rows.append(
            {
                "slot": stage.slot,
                "experts": planned.experts[stage.engine],
                "requests": sum(load.requests for load in loads),
                "prompt_tokens": sum(load.prompt_tokens for load in loads),
                "completion_tokens": sum(load.completion_tokens for load in loads),
                "is_load": stage.is_load,
                "start_s": stage.start_s,
                "ready_s": stage.ready_s,
                "end_s": stage.end_s,
            }
        )
    return rows


def print_plan(planned: DryRun) -> None:
    """A plan as tables, the estimate in two lines, and what is to be known of it."""
    table = make_table("expert", "queries", "requests", "prompt tokens", "tokens")
    for name, load in planned.asked.items():
        counts = (load.requests, load.prompt_tokens, load.completion_tokens)
        table.add_row(name, *(f"{n:,}" for n in (planned.chosen.get(name, 0), *counts)))
    stdout().print(table)
    table = make_table("slot", "experts", "requests", "tokens", "load", "from", "until")
    for row in stage_rows(planned):
        table.add_row(
            str(row["slot"] + 1),
            ", ".join(row["experts"]),
            f"{row['requests']:,}",
            f"{row['completion_tokens']:,}",
            "yes" if row["is_load"] else "no",
            duration(row["start_s"]),
            duration(row["end_s"]),
        )
    stdout().print(table)
    estimate = planned.plan.estimate
    typer.echo(
        f"{planned.n_queries:,} queries: {estimate.loads} loads of "
        f"{estimate.loaded_bytes / GIB:.2f} GiB, about {duration(estimate.seconds)}, "
        f"{sum(load.prompt_tokens for load in planned.asked.values()):,} + "
        f"{sum(load.completion_tokens for load in planned.asked.values()):,} tokens, "
        f"{planned.usd:.6g} USD"
    )
    typer.echo(
        f"memory: {estimate.peak_bytes / GIB:.2f} GiB at most, of {planned.budget_bytes / GIB:.2f}"
    )
    for line in remarks(planned):
        typer.echo(line)


def remarks(planned: DryRun) -> list[str]:
    """What a table of the plan does not show."""
    lines: list[str] = []
    if planned.rejects:
        first = planned.rejects[0]
        lines.append(
            f"lines rejected: {len(planned.rejects)}, first: line {first.number}: {first.reason}"
        )
    if planned.n_refused:
        lines.append(f"queries that the composition abstains from: {planned.n_refused}")
    if planned.n_failed:
        lines.append(f"queries that fail before anyone is asked: {planned.n_failed}")
    for setting, n in planned.ignored.items():
        lines.append(f"{setting!r} is ignored (lines with it: {n})")
    if planned.saving is not None:
        lines.append(spared(planned.saving))
    if planned.joint is not None:
        lines += kept_to(planned.joint)
    if planned.endpoints:
        names = ", ".join(planned.endpoints)
        lines.append(f"not in the stages, since they take no slot: {names}")
    return [*lines, *(f"note: {note}" for note in planned.notes)]
