"""`composer latent`: what lets experts of a group attend to one another's thoughts, trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from composer.cli.fit import read_settings
from composer.cli.options import Output, Verbose, experts_path, set_up_logging

latent = typer.Typer(
    no_args_is_help=True, help="Train experts to attend to one another while one of them writes."
)


@latent.callback()
def groups() -> None:
    """Train experts to attend to one another while one of them writes."""


@latent.command()
def fit(
    experts: Annotated[
        str,
        typer.Option("--experts", metavar="A,B,...", help="Experts of the group, two or more."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="JSONL",
            help="A row a line: prompt (or messages) and answer (or reference). Rows whose split "
            "is not train are judged on at the end.",
        ),
    ],
    save: Annotated[Path, typer.Option("--save", metavar="DIR", help="Where it is kept.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="COMPOSER_EXPERTS",
            help="The experts.yaml to read. Left out: the one in this folder.",
        ),
    ] = None,
    primary: Annotated[
        list[str] | None,
        typer.Option("--primary", help="An expert that may write. Left out: the first."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest rate of learning.")] = None,
    levels: Annotated[int | None, typer.Option(help="Places along the depth to attend at.")] = None,
    width: Annotated[int | None, typer.Option(help="Of the space that states meet in.")] = None,
    heads: Annotated[int | None, typer.Option(help="Of the attention there.")] = None,
    gate: Annotated[
        Literal["scalar", "channel", "none"] | None, typer.Option(help="What opens as it learns.")
    ] = None,
    refresh: Annotated[
        Literal["prompt", "every_n", "token"] | None,
        typer.Option(help="Whether peers read what is being written, and how often."),
    ] = None,
    refresh_every: Annotated[int | None, typer.Option(help="Tokens, for every_n.")] = None,
    active: Annotated[int | None, typer.Option(help="Experts that take part at a time.")] = None,
    router: Annotated[
        bool,
        typer.Option(
            "--router", help="Train a router of who takes part as well, and keep it there."
        ),
    ] = False,
    think_tokens: Annotated[
        int | None, typer.Option(help="Tokens that each peer says to the prompt by itself first.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights and the rows' order.")] = None,
    starts: Annotated[
        int | None,
        typer.Option(help="Seeds to begin with; that of the lowest loss is trained to its end."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting that has no option here."),
    ] = None,
    states: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where peers' states are kept for runs to come. Left out: in the folder, until "
            "the end.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch's name of where experts compute.")] = "cpu",
    output: Output = "text",
    verbose: Verbose = 0,
) -> None:
    """Fit a Mixture of Thoughts: experts stay as they are, what lies between them is trained.

    The folder then holds latent.json, latent.safetensors, losses.json and losses.svg, and an expert
    of experts.yaml with `engine: latent` takes it as its source; with --router a composition takes
    it as its router, too (router: {from: DIR}). The same command goes on where it was ended.
    docs/latent.md has all settings, and what each is if it is left out.

    composer latent fit --experts smol,gemma --data train.jsonl --save groups/both

    composer latent fit --experts smol,units --primary smol --data cases.jsonl --save groups/units
    --steps 100 --set gate_rate=0.02

    composer latent fit --experts smol,gemma,units --data cases.jsonl --save groups/three --active 2
    --router
    """
    set_up_logging(verbose)
    from composer.cli.latent_group import (
        read_members,
        read_primaries,
        read_recipe,
        resolve_member,
        router_kept,
    )
    from composer.cli.latent_run import as_text, draw, progress_shown, tell
    from composer.cli.output import stderr, stdout, write_json
    from composer.experts import load_experts
    from composer.latent.rows import TRAIN, read_rows
    from composer.latent.settings import check_choice

    options = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "levels": levels,
        "width": width,
        "heads": heads,
        "gate": gate,
        "refresh": refresh,
        "refresh_every": refresh_every,
        "active": active,
        "think_tokens": think_tokens,
        "seed": seed,
        "starts": starts,
        "router": router or None,
    }
    given = {key: value for key, value in options.items() if value is not None}
    shape, recipe = read_recipe(given, read_settings(settings or ()))
    registry = load_experts(experts_path(config))
    named = read_members(registry, experts)
    primaries = read_primaries(primary or (), named, shape)
    if recipe.router:
        check_choice(shape, len(named), len(primaries))
    rows = read_rows(data)
    members = [resolve_member(registry, member) for member in named]
    started_s = time.perf_counter()
    with stderr().status("loading torch"):
        from composer.latent.families import check_family
        from composer.latent.fitting import CHART, fit_group, fitted_before
        from composer.latent.identity import weights_identity
        from composer.latent.members import load_thinker, model_type
        from composer.latent.training import run_settings
    identities: dict[str, str] = {}
    for member in members:
        assert member.model_path is not None, "resolved above"
        folder = Path(member.model_path)
        check_family(member.expert, model_type(folder))
        adapter = None if member.adapter is None else Path(member.adapter)
        identities[member.expert] = weights_identity(folder, adapter)
    learned = [row for row in rows if row.split == TRAIN]
    run = run_settings(recipe, shape, identities, primaries, learned)
    before = fitted_before(save, run)
    if before is not None:
        typer.echo(f"{save}: is fitted already", err=True)
        artefact = before
    else:
        import torch

        dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[recipe.dtype]
        with stderr().status(f"loading {', '.join(identities)}"):
            thinkers = [load_thinker(member, dtype=dtype, device=device) for member in members]
        encoder, keep_router = router_kept(save, identities, recipe)
        with progress_shown(recipe) as (on_read, on_step):
            artefact, done = fit_group(
                named,
                thinkers,
                rows,
                save,
                shape,
                recipe,
                primaries=primaries,
                states=states,
                encoder=encoder,
                keep_router=keep_router,
                on_read=on_read,
                on_step=on_step,
            )
        draw(save / CHART, done)
    said = tell(artefact, save, time.perf_counter() - started_s)
    if output == "json":
        write_json(said)
        return
    from composer.cli.explain import make_table

    table = make_table("fitted", "")
    for key, value in said.items():
        table.add_row(key, as_text(value))
    stdout().print(table)
