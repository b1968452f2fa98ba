"""`composer experts`: what experts.yaml says, whether it is right, and fetching the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from composer.cli.options import ExpertsPath, Output, Verbose, experts_path, set_up_logging
from composer.cli.output import complain, stderr, stdout, write_json
from composer.errors import ConfigError
from composer.suggest import unknown_name

if TYPE_CHECKING:
    from composer.experts import Expert, Registry

experts = typer.Typer(no_args_is_help=True, help="List, check and fetch the experts.")


@experts.command("list")
def list_experts(path: ExpertsPath = None, output: Output = "text") -> None:
    """List the experts of experts.yaml.

    composer experts list

    composer experts list --output json
    """
    from composer.cli.explain import make_table
    from composer.experts import load_experts

    rows = [_row(expert) for expert in load_experts(experts_path(path)).experts.values()]
    if output == "json":
        write_json(rows)
        return
    table = make_table("name", "engine", "runner", "source", "categories", "USD in/out a Mtok")
    for row in rows:
        source = row["source"] or row["model"] or ""
        if row["base"]:
            source = f"{row['base']} + {row['adapter']}"
        if row["members"]:
            source = f"{' + '.join(row['members'])}, {source}"
        price = f"{row['input_usd_per_mtok']:g} / {row['output_usd_per_mtok']:g}"
        categories = ", ".join(row["categories"])
        table.add_row(row["name"], row["engine"], row["runner"], source, categories, price)
    stdout().print(table)


@experts.command()
def check(path: ExpertsPath = None) -> None:
    """Say all that is wrong with experts.yaml.

    A line for each problem; no model is loaded. What may surprise is a warning, and not wrong.

    composer experts check

    composer experts check --experts config/experts.yaml
    """
    from composer.assembly import composition_problems, composition_warnings
    from composer.experts import check_experts, load_experts, unset_secrets

    file = experts_path(path)
    problems, warnings = check_experts(file), list[str]()
    if not problems:
        registry = load_experts(file)
        problems += composition_problems(registry)
        warnings += [] if problems else composition_warnings(registry)
        problems += unset_secrets(registry)
        problems += source_problems(registry)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo("ok")


@experts.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Left out: all experts.")
    ] = None,
    path: ExpertsPath = None,
    verbose: Verbose = 0,
) -> None:
    """Fetch models and adapters before they are asked for.

    What needs it is converted. Writes each expert's folder and its size.

    composer experts pull

    composer experts pull smol gemma
    """
    from composer.cli.serving import EventLoop

    set_up_logging(verbose)
    with EventLoop() as loop:
        from composer.experts import load_experts

        registry = load_experts(experts_path(path))
        for name in names or ():
            if name not in registry.experts:
                raise ConfigError(unknown_name("expert", name, registry.experts))
        loop.run(_pull(registry, names or list(registry.experts)))


def source_problems(registry: Registry) -> Iterator[str]:
    """A message for each model or adapter that a look shows not to be there."""
    from composer.backends.sources import check_group, check_source, resolve_adapter

    for expert in registry.experts.values():
        source = registry.engine_spec(expert.name).source
        look = check_group if expert.members else check_source
        problem = look(source) if source is not None and expert.base is None else None
        if expert.adapter is not None and not is_hub_id(expert.adapter):
            try:
                resolve_adapter(expert.adapter, download=False)
            except ConfigError as exc:
                problem = str(exc)
        if problem is not None:
            yield f"{registry.path}: expert {expert.name!r}: {problem}"


def is_hub_id(source: str) -> bool:
    """Whether only the hub can know the source: it names neither a package nor a path here."""
    from composer.backends.sources import check_source

    is_elsewhere = not source.startswith("package:") and not Path(source).expanduser().exists()
    return is_elsewhere and check_source(source) is None


async def _pull(registry: Registry, names: Sequence[str]) -> None:
    from composer.pool.pool import Pool

    console = stderr()
    async with Pool(registry) as pool:
        for name in names:
            expert = registry.experts[name]
            source = registry.engine_spec(name).source
            if source is None:
                console.print(f"{name}: nothing to fetch ({expert.engine})")
                continue
            console.print(f"{name}: from {expert.adapter or source}")
            # The hub draws progress bars of its own.
            show = nullcontext() if is_hub_id(source) else console.status("a minute or two, once")
            with show:
                spec = await pool.resolve(name)
            folder = Path(spec.adapters[name] if expert.adapter else spec.model_path or ".")
            if spec.members:
                folder = Path(spec.source or ".")
            typer.echo(f"{name}\t{folder}\t{folder_bytes(folder) / 1e6:.0f} MB")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, links followed."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _row(expert: Expert) -> dict[str, Any]:
    return {
        "name": expert.name,
        "engine": expert.engine,
        "runner": expert.resolved_runner,
        "source": expert.source,
        "model": expert.model,
        "members": list(expert.members),
        "base": expert.base,
        "adapter": expert.adapter,
        "categories": list(expert.categories),
        "input_usd_per_mtok": expert.price.input_usd_per_mtok,
        "output_usd_per_mtok": expert.price.output_usd_per_mtok,
    }
