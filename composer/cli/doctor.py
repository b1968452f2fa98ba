"""`composer doctor`: whether this machine can run these experts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from composer.cli.options import ExpertsPath, Output, experts_path, set_up_logging
from composer.cli.output import complain, stdout, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from composer.cli.health import Budget, ExpertHealth, Machine


def doctor(path: ExpertsPath = None, output: Output = "text") -> None:
    """Say whether this machine can run these experts.

    That is what is installed, what the machine has, and whether each expert is here and fits.
    Nothing is loaded or downloaded. Exits with 1 when something essential is missing, and says
    what to do.

    composer doctor

    composer doctor --experts config/experts.yaml --output json
    """
    from composer.cli import health
    from composer.errors import ConfigError
    from composer.experts import load_experts, unset_secrets

    set_up_logging(0)
    versions, machine = health.installed(), health.machine()
    budget, experts = None, list[health.ExpertHealth]()
    try:
        registry = load_experts(experts_path(path))
    except ConfigError as exc:
        problems = [str(exc)]
    else:
        budget, experts = health.budget(registry), health.expert_health(registry)
        problems = [*health.problems(registry, versions, experts), *unset_secrets(registry)]
    if output == "json":
        write_json(
            {
                "installed": versions,
                "machine": asdict(machine),
                "pool": asdict(budget) if budget is not None else None,
                "experts": [asdict(expert) for expert in experts],
                "problems": problems,
            }
        )
    else:
        show_machine(stdout(), versions, machine, budget)
        if experts:
            show_experts(stdout(), experts)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


def show_machine(
    console: Console, versions: dict[str, str | None], machine: Machine, budget: Budget | None
) -> None:
    """What is installed, what there is, and what experts may take of it."""
    from composer.cli.explain import make_table

    table = make_table("package", "version")
    for name, version in versions.items():
        table.add_row(name, version or "not installed")
    console.print(table)
    console.print(
        f"machine: {machine.cores} cores, {machine.memory_gib:.1f} GiB of memory, "
        f"{machine.free_memory_gib:.1f} GiB of it free; GPU: {'; '.join(machine.gpus) or 'none'}"
    )
    if budget is not None:
        console.print(
            f"pool: {budget.memory_gib:.1f} GiB, {budget.cores} cores, {budget.threads} threads a "
            f"runner, {budget.busy_engines} busy engines, {budget.warm_spares} warm spares"
        )


def show_experts(console: Console, experts: list[ExpertHealth]) -> None:
    """Whether each expert is here and fits."""
    from composer.cli.explain import make_table

    table = make_table("expert", "engine", "state", "needs", "fits", "last load")
    for expert in experts:
        kind = "measured" if expert.is_measured else "estimated"
        need = "unknown until pulled" if expert.state != "remote" else "nothing here"
        if expert.need_gib is not None:
            need = f"{expert.need_gib:.2f} GiB ({kind})"
        fits = {None: "", True: "yes", False: "no"}[expert.fits]
        load = "never" if expert.load_s is None else f"{expert.load_s:.1f} s"
        table.add_row(expert.name, expert.engine, expert.state, need, fits, load)
    console.print(table)
    for expert in experts:
        if expert.state == "not pulled":
            console.print(f"{expert.name}: {expert.note}")
